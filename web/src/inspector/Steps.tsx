// What a body has recorded of its work: calls of models and tools, answers, and the text that is still coming.

import type { Step, Steps } from "../api/schema";
import type { Json, Value } from "../api/types";
import { count, dollars, plural, seconds } from "../common/format";
import { Markdown } from "../values/Markdown";
import { looksLikeMarkdown } from "../values/markdown";
import { Tree } from "../values/Tree";
import { ValueView } from "../values/ValueView";

/** `at`: only what had been recorded by then. */
export function StepList({ steps, at }: { steps: Steps; at: number | null }) {
  const items = at === null ? steps.items : steps.items.filter((one) => one.ended_at <= at);
  const partial = at === null ? steps.partial : "";
  return (
    <>
      <Sums items={items.filter((one) => one.attempt === steps.attempt)} />
      <ol className="steps">
        {items.map((one) => <StepView key={one.name} step={one} attempt={steps.attempt} />)}
        {partial !== "" && (
          <li className="step coming" aria-live="off">
            <p className="step-head"><span className="step-kind" aria-hidden="true">…</span><span className="muted">so far</span></p>
            <pre className="step-text">{partial}<span className="caret" /></pre>
          </li>
        )}
      </ol>
    </>
  );
}

const MARK: Record<string, string> = { model: "◆", tool: "⚒", answer: "✓", summary: "≡", step: "•" };

function StepView({ step, attempt }: { step: Step; attempt: number }) {
  const { meta } = step;
  const who = meta.person as string | undefined;
  const model = (meta.answered_by ?? meta.model) as string | undefined;
  return (
    <li className={`step step-${step.kind}`}>
      <p className="step-head">
        <span className="step-kind" title={step.kind} aria-hidden="true">{MARK[step.kind] ?? MARK.step}</span>
        <strong>{step.name}</strong>
        {who && <span>{who}</span>}
        {step.kind !== "tool" && model && <span className="muted cut-text">{model}</span>}
        {step.attempt !== attempt && <span className="tag">of attempt {step.attempt}</span>}
        <span className="grow" />
        <Taken meta={meta} />
        <span className="muted num">{seconds(Math.max(0, step.ended_at - step.started_at))}</span>
      </p>
      {step.kind === "tool" && meta.arguments !== undefined && <Arguments value={meta.arguments} />}
      {step.error ? (
        <p className="step-error status-failed">{step.error.type}: {step.error.message}</p>
      ) : (
        <Given step={step} />
      )}
    </li>
  );
}

function Taken({ meta }: { meta: Record<string, Json> }) {
  if (typeof meta.tokens !== "number" || meta.tokens === 0) return null;
  const said = typeof meta.input_tokens === "number" ? `${count(meta.input_tokens)} in, ${count(meta.output_tokens ?? 0)} out` : undefined;
  return (
    <span className="num" title={said}>
      {count(meta.tokens)} tokens{typeof meta.cost === "number" && meta.cost > 0 && <span className="muted"> {dollars(meta.cost)}</span>}
    </span>
  );
}

function Arguments({ value }: { value: Json }) {
  const none = value !== null && typeof value === "object" && Object.keys(value).length === 0;
  return (
    <>
      <p className="step-label">{none ? "no arguments" : "arguments"}</p>
      {!none && <Tree value={value} />}
      <p className="step-label">result</p>
    </>
  );
}

interface Message {
  role?: string;
  content?: string;
  tool?: string;
  step?: string;
  calls?: { tool: string; arguments?: Json }[];
}

/** What a step gave. A model's is what it was asked and what it answered. */
function Given({ step }: { step: Step }) {
  const value = step.value.value as { asked?: Message[]; answer?: Message } | null;
  const conversation = (step.kind === "model" || step.kind === "summary") && typeof value?.answer === "object";
  if (!conversation) return <ValueView value={step.value as Value} none="It gave nothing." />;
  const { answer, asked } = value!;
  return (
    <>
      {asked && asked.length > 0 && (
        <details className="step-asked">
          <summary>{asked.every((one) => one.role === "tool") ? plural(asked.length, "result") : plural(asked.length, "message")} asked with</summary>
          {asked.map((one, k) => (
            <div key={k}>
              <span className="muted">{one.tool ?? one.role}</span>
              <pre className="step-text">{one.content || (one.step ? `see ${one.step}` : "")}</pre>
            </div>
          ))}
        </details>
      )}
      {answer?.content && <Said text={answer.content} />}
      {answer?.calls?.map((call, k) => (
        <p key={k} className="step-call"><span className="muted">calls</span> <span className="mono">{call.tool}({argued(call.arguments)})</span></p>
      ))}
    </>
  );
}

const MARKDOWN_MAX = 60_000;

function Said({ text }: { text: string }) {
  return text.length <= MARKDOWN_MAX && looksLikeMarkdown(text)
    ? <div className="step-text"><Markdown text={text} /></div> : <pre className="step-text">{text}</pre>;
}

const ARGUED_MAX = 160;

function argued(value: Json): string {
  const text = Object.entries(value ?? {}).map(([name, one]) => `${name}: ${JSON.stringify(one)}`).join(", ");
  return text.length > ARGUED_MAX ? `${text.slice(0, ARGUED_MAX)}…` : text;
}

/** What all of them took. */
function Sums({ items }: { items: readonly Step[] }) {
  let [tokens, cost] = [0, 0];
  for (const { meta } of items) {
    if (typeof meta.tokens === "number") tokens += meta.tokens;
    if (typeof meta.cost === "number") cost += meta.cost;
  }
  const models = items.filter((one) => one.kind === "model" || one.kind === "summary").length;
  const tools = items.filter((one) => one.kind === "tool").length;
  const said = [
    models > 0 && plural(models, "call of a model", "calls of models"), tools > 0 && plural(tools, "call of a tool", "calls of tools"),
    tokens > 0 && `${count(tokens)} tokens`, cost > 0 && dollars(cost),
  ].filter(Boolean);
  return said.length > 1 ? <p className="muted">{said.join(", ")}</p> : null;
}
