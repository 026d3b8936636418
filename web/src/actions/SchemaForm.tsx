import { useId } from "react";
import type { Schema } from "../api/types";
import { choices, type Draft, draftOf, kindOf, typeOf, type Wrong } from "./form";
import "./actions.css";

const RADIOS = 5;
const LONG = 120;

interface Props {
  schema: Schema;
  name: string;
  draft: Draft;
  set: (draft: Draft) => void;
  required: boolean;
  wrong: Wrong;
  path?: string;
  /** The outermost one without a name of its own. */
  bare?: boolean;
}

/** Fields for a schema; `form.ts` makes the value of their draft. */
export function Field(props: Props) {
  const { schema, name, draft, set, required, wrong, path = "", bare = false } = props;
  const id = useId();
  const kind = kindOf(schema);
  const label = schema.title ?? name;
  const problem = wrong[path];
  const notes = (
    <>
      {schema.description && <span id={`${id}-d`} className="muted">{schema.description}</span>}
      {problem && <span id={`${id}-w`} className="wrong" role="alert">{problem}</span>}
    </>
  );
  const about = {
    id, "aria-invalid": problem ? true : undefined, "aria-describedby": `${id}-d ${id}-w`,
  } as const;
  if (kind === "object") {
    const needed: string[] = Array.isArray(schema.required) ? schema.required : [];
    const parts = draft as Record<string, Draft>;
    const inner = Object.entries<Schema>(schema.properties).map(([key, each]) => (
      <Field key={key} schema={each} name={key} draft={parts[key] ?? draftOf(each)} required={needed.includes(key)}
        set={(to) => set({ ...parts, [key]: to })} wrong={wrong} path={`${path}/${key}`} />
    ));
    return bare ? <div className="fields">{inner}{notes}</div> : <fieldset className="fields"><legend>{label}<Optional required={required} /></legend>{notes}{inner}</fieldset>;
  }
  if (kind === "array") return <Items {...props} label={label} notes={notes} />;
  if (kind === "boolean") {
    return (
      <div className="field check">
        <input {...about} type="checkbox" checked={draft === true} onChange={(event) => set(event.target.checked)} />
        <label htmlFor={id}>{label}</label>
        {notes}
      </div>
    );
  }
  const all = kind === "enum" ? choices(schema) : [];
  if (kind === "enum" && all.length <= RADIOS) {
    return (
      <div className="field" role="radiogroup" aria-labelledby={`${id}-l`}>
        <span className="label" id={`${id}-l`}>{label}<Mark schema={schema} required={required} /></span>
        <div className="radios">
          {all.map((each, k) => (
            <label key={k}>
              <input type="radio" name={id} checked={draft === String(k)} onChange={() => set(String(k))} />
              {shown(each)}
            </label>
          ))}
        </div>
        {notes}
      </div>
    );
  }
  const text = String(draft);
  return (
    <div className="field">
      <label className="label" htmlFor={id}>{label}<Mark schema={schema} required={required} /></label>
      {kind === "enum" ? (
        <select {...about} value={text} onChange={(event) => set(event.target.value)}>
          <option value="">choose …</option>
          {all.map((each, k) => <option key={k} value={String(k)}>{shown(each)}</option>)}
        </select>
      ) : kind === "number" ? (
        <input {...about} type="text" inputMode="decimal" value={text} onChange={(event) => set(event.target.value)} />
      ) : kind === "json" || text.length > LONG || text.includes("\n") || (schema.maxLength ?? 0) > LONG ? (
        <textarea {...about} rows={Math.min(12, Math.max(kind === "json" ? 2 : 3, text.split("\n").length))} spellCheck={kind !== "json"}
          value={text} onChange={(event) => set(event.target.value)} />
      ) : (
        <input {...about} type="text" value={text} onChange={(event) => set(event.target.value)} />
      )}
      {notes}
    </div>
  );
}

function Items({ schema, name, draft, set, required, wrong, path = "", label, notes }: Props & { label: string; notes: React.ReactNode }) {
  const items = draft as Draft[];
  return (
    <fieldset className="fields">
      <legend>{label}<Optional required={required} /></legend>
      {notes}
      {items.map((each, k) => (
        <div className="item" key={k}>
          <Field schema={schema.items} name={`${name} ${k + 1}`} draft={each} required wrong={wrong} path={`${path}/${k}`}
            set={(to) => set(items.map((old, at) => (at === k ? to : old)))} />
          <button type="button" className="plain" aria-label={`Remove ${name} ${k + 1}`} onClick={() => set(items.filter((_, at) => at !== k))}>✕</button>
        </div>
      ))}
      <button type="button" onClick={() => set([...items, draftOf(schema.items)])}>Add</button>
    </fieldset>
  );
}

function Optional({ required }: { required: boolean }) {
  return required ? null : <span className="muted"> optional</span>;
}

/** After a form's mistakes were named: into the first field that has one. */
export function focusWrong(form: HTMLElement): void {
  requestAnimationFrame(() => {
    const first = form.querySelector(".wrong")?.closest(".field, fieldset");
    first?.querySelector<HTMLElement>("input, select, textarea, button")?.focus();
  });
}

function Mark({ schema, required }: { schema: Schema; required: boolean }) {
  const type = typeOf(schema) ?? (kindOf(schema) === "json" ? "JSON" : "");
  return <span className="muted"> {type}{required ? "" : `${type && ", "}optional`}</span>;
}

function shown(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}
