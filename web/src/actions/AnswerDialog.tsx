import { type FormEvent, useState } from "react";
import { type ApiError, post, seg } from "../api/client";
import type { Schema, Waiting } from "../api/types";
import { say } from "../app/notes";
import { Dialog, Failure } from "../common/ui";
import { type Draft, draftOf, LEFT_OUT, readDraft, type Wrong } from "./form";
import { Field } from "./SchemaForm";

/** The answer to a question of a node, in a form from its schema; without one, a text. */
export function AnswerDialog({ id, waiting, close, done }: {
  id: string;
  waiting: Waiting;
  close: () => void;
  done: () => void;
}) {
  const schema: Schema = waiting.schema ?? { type: "string" };
  const [draft, setDraft] = useState<Draft>(() => draftOf(schema));
  const [wrong, setWrong] = useState<Wrong>({});
  const [error, setError] = useState<ApiError | Error | null>(null);
  const [busy, setBusy] = useState(false);
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    const found: Wrong = {};
    const value = readDraft(schema, draft, true, found);
    setWrong(found);
    if (Object.keys(found).length > 0 || value === LEFT_OUT) return;
    setBusy(true);
    try {
      await post(`executions/${seg(id)}/answer`, { node: waiting.node, iteration: waiting.iteration, value });
      say(`Answered ${waiting.node}`);
      done();
      close();
    } catch (told) {
      setError(told instanceof Error ? told : new Error(String(told)));
      setBusy(false);
    }
  };
  return (
    <Dialog title={`Answer ${waiting.node}`} close={close}>
      {waiting.prompt && <p className="prompt">{waiting.prompt}</p>}
      <form className="fields" onSubmit={submit}>
        <Field schema={schema} name="answer" draft={draft} set={setDraft} required wrong={wrong} bare />
        {error && <Failure error={error} />}
        <div className="acts">
          <button type="button" onClick={close}>Back</button>
          <button type="submit" className="primary" disabled={busy}>Send the answer</button>
        </div>
      </form>
    </Dialog>
  );
}
