import { type FormEvent, useState } from "react";
import { type ApiError, post, seg } from "../api/client";
import type { Json, Schema, Waiting } from "../api/types";
import { say } from "../app/notes";
import { Dialog, Failure } from "../common/ui";
import { Markdown } from "../values/Markdown";
import { looksLikeMarkdown } from "../values/markdown";
import { type Draft, draftOf, LEFT_OUT, readDraft, type Wrong } from "./form";
import { Field, focusWrong } from "./SchemaForm";

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
  const submit = (event: FormEvent) => {
    event.preventDefault();
    const form = event.currentTarget as HTMLElement;
    const found: Wrong = {};
    const value = readDraft(schema, draft, true, found);
    setWrong(found);
    if (Object.keys(found).length > 0) focusWrong(form);
    else if (value !== LEFT_OUT) void send(value);
  };
  const send = async (value: Json) => {
    setBusy(true);
    try {
      await post(`executions/${seg(id)}/answer`, { node: waiting.node, iteration: waiting.iteration, step: waiting.step ?? "", value });
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
      {waiting.prompt && <Prompt text={waiting.prompt} />}
      {asksForLeave(schema) ? <Leave send={send} busy={busy} error={error} /> : <form className="fields" onSubmit={submit}>
        <Field schema={schema} name="answer" draft={draft} set={setDraft} required wrong={wrong} bare />
        {error && <Failure error={error} />}
        <div className="acts">
          <button type="button" onClick={close}>Back</button>
          <button type="submit" className="primary" disabled={busy}>Send the answer</button>
        </div>
      </form>}
    </Dialog>
  );
}

/** What is asked, as Markdown if that was meant. */
export function Prompt({ text }: { text: string }) {
  return looksLikeMarkdown(text) ? <Markdown text={text} /> : <p className="prompt">{text}</p>;
}

/** Whether a tool may be called: what is answered is a map with `approve`, and a reason where it may not. */
export function asksForLeave(schema: Schema): boolean {
  const { approve, reason, ...rest } = (schema.properties ?? {}) as Record<string, Schema>;
  return approve?.type === "boolean" && reason?.type === "string" && Object.keys(rest).length === 0;
}

function Leave({ send, busy, error }: { send: (value: Json) => void; busy: boolean; error: Error | null }) {
  const [reason, setReason] = useState("");
  const refuse = () => send({ approve: false, ...(reason === "" ? {} : { reason }) });
  return (
    <form
      className="fields"
      onSubmit={(event) => {
        event.preventDefault();
        if (reason !== "") refuse(); // Enter allows nothing
      }}
    >
      <label className="field">
        <span className="label">Why not, if you refuse</span>
        <input type="text" value={reason} onChange={(event) => setReason(event.target.value)} />
      </label>
      {error && <Failure error={error} />}
      <div className="acts">
        <button type="button" className="danger" disabled={busy} onClick={refuse}>Refuse</button>
        <button type="button" className="primary" disabled={busy} onClick={() => send({ approve: true })}>Allow</button>
      </div>
    </form>
  );
}
