import { type FormEvent, useState } from "react";
import { post } from "../api/client";
import type { Drawn, Schema } from "../api/types";
import { say } from "../app/notes";
import { go, link } from "../app/route";
import { Dialog, Failure } from "../common/ui";
import { type Draft, draftOf, LEFT_OUT, readDraft, type Wrong } from "./form";
import { Field, focusWrong } from "./SchemaForm";

/** The schema of a diagram's inputs: those without a default are needed. */
export function inputsSchema(drawn: Drawn): Schema {
  const properties: Record<string, Schema> = {};
  const required: string[] = [];
  for (const [name, input] of Object.entries(drawn.inputs)) {
    const typed: Schema = input.type && input.type !== "any" ? { type: input.type } : {};
    if (input.description) typed.description = input.description;
    if (input.default !== undefined && input.default !== null) typed.default = input.default;
    properties[name] = typed;
    if (input.required ?? !("default" in input)) required.push(name);
  }
  return { type: "object", properties, required };
}

/** Starts a diagram, with a form from its inputs. */
export function StartDialog({ drawn, by, close }: {
  drawn: Drawn;
  by: { hash: string } | { file: string };
  close: () => void;
}) {
  const [schema] = useState(() => inputsSchema(drawn));
  const none = Object.keys(schema.properties).length === 0;
  const [draft, setDraft] = useState<Draft>(() => (none ? {} : draftOf(schema)));
  const [wrong, setWrong] = useState<Wrong>({});
  const [error, setError] = useState<Error | null>(null);
  const [busy, setBusy] = useState(false);
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    const form = event.currentTarget as HTMLElement;
    const found: Wrong = {};
    const inputs = none ? {} : readDraft(schema, draft, true, found);
    setWrong(found);
    if (Object.keys(found).length > 0) focusWrong(form);
    if (Object.keys(found).length > 0 || inputs === LEFT_OUT) return;
    setBusy(true);
    try {
      const made = await post<{ id: string }>("executions", { diagram: by, inputs });
      say(`Started ${drawn.name}`);
      go(link(["executions", made.id]));
    } catch (told) {
      setError(told instanceof Error ? told : new Error(String(told)));
      setBusy(false);
    }
  };
  return (
    <Dialog title={`Start ${drawn.name}`} close={close}>
      <form className="fields" onSubmit={submit}>
        {none ? <p className="muted">It has no inputs.</p>
          : <Field schema={schema} name="inputs" draft={draft} set={setDraft} required wrong={wrong} bare />}
        {error && <Failure error={error} />}
        <div className="acts">
          <button type="button" onClick={close}>Back</button>
          <button type="submit" className="primary" disabled={busy}>Start</button>
        </div>
      </form>
    </Dialog>
  );
}
