import { useMayWrite } from "../api/rights";
import { useExecutionView } from "../api/source";
import type { ExecutionDetail, ExecutionView, Waiting } from "../api/types";
import type { ActionName } from "../actions/ActionDialog";
import { useCommands } from "../app/commands";
import { link, setQuery } from "../app/route";
import { ago, clock, count, dollars, local, plural, rate, seconds, size, ticking } from "../common/format";
import { CountList, Progress, StatusIcon, StatusText } from "../common/status";
import { Copy } from "../common/ui";
import { useClock, useInstant } from "../live/clock";

/** How an execution stands, at the instant that is shown; what can be done to it is done `now`. */
export function Header({ id, now: live, gone, detail, act, reply }: {
  id: string;
  /** It was deleted: nothing can be done to it. */
  gone: boolean;
  now: ExecutionView | null;
  detail: ExecutionDetail | null;
  act: (name: ActionName) => void;
  reply: (to: Waiting) => void;
}) {
  const instant = useInstant();
  const shown = useExecutionView();
  const current: ExecutionView = live ?? detail ?? { id, name: "", status: "pending" };
  const view = instant === null ? current : shown ?? current;
  const status = current.stale ? "stale" : current.status;
  const stood = view.stale ? "stale" : view.status;
  const ended = status === "completed" || status === "failed" || status === "cancelled";
  const mayWrite = useMayWrite() && !gone;
  const acts: [ActionName, string][] = !mayWrite ? [] : [
    ...(ended ? [] : [["cancel", "Cancel"] as [ActionName, string]]),
    ...(status === "running" ? [] : [["resume", "Resume"] as [ActionName, string]]),
    ["fork", "Fork"],
    ...(ended ? [] : [["signal", "Signal"] as [ActionName, string]]),
    ...(status !== "running" ? [["delete", "Delete"] as [ActionName, string]] : []),
  ];
  useCommands(acts.map(([name, text]) => ({ title: `${text} this execution`, act: () => act(name) })));
  // A sleeper says it in its node; an ended execution waits for nothing.
  const waiting = ended || instant !== null ? [] : (detail?.waiting ?? []).filter((each) => each.kind !== "sleep" || status === "suspended");
  const now = useClock(1, waiting.some((each) => each.wake_at != null));

  return (
    <header className="execution-head">
      <div className="title">
        <h1>
          <span className="cut-text">{view.name || "unnamed"}</span>
        </h1>
        <StatusText status={stood} />
        <Copy text={id} />
        {instant !== null && <span className="at-instant">at {clock(instant)}{stood !== status && <>, now {status}</>}</span>}
        {(view.round ?? 1) > 1 && <span className="muted" title="How often it was run">round {view.round}</span>}
        {view.parent && <span className="muted">fork of <a className="mono" href={link(["executions", view.parent])}>{view.parent}</a></span>}
        <span className="grow" />
        <div className="acts">
          {view.parent && <a className="button" href={link(["diff", view.parent, id])}>Compare</a>}
          {acts.map(([name, text]) => (
            <button key={name} type="button" className={name === "delete" ? "danger" : undefined} onClick={() => act(name)}>
              {text}
            </button>
          ))}
        </div>
      </div>
      <Figures view={view} detail={instant === null ? detail : null} />
      {view.error && (stood === "failed" || (stood === "cancelled" && view.error.message !== "")) && (
        <p className={`why why-${stood}`}>
          <StatusIcon status={stood} />
          <span>
            {view.error.node && <><Node path={view.error.node} />: </>}
            <strong>{view.error.type}</strong>{view.error.message && ": "}{view.error.message}
          </span>
        </p>
      )}
      {stood === "stale" && (
        <p className="why stale-why">
          <StatusIcon status="stale" />
          <span>Its owner is dead: nothing runs any more. Resume goes on with what is recorded.</span>
        </p>
      )}
      {waiting.slice(0, WAITING_SHOWN).map((each) => (
        <p className="why waiting" key={`${each.node} ${each.iteration}`}>
          <StatusIcon status="suspended" />
          <span><Node path={each.node} /> {waitsFor(each, now)}</span>
          {mayWrite && each.kind === "answer" && (
            <button type="button" className="primary" onClick={() => reply(each)}>Answer</button>
          )}
          {mayWrite && each.kind === "signal" && (
            <button type="button" onClick={() => act("signal")}>Send it</button>
          )}
        </p>
      ))}
      {waiting.length > WAITING_SHOWN && (
        <p className="muted">
          and {plural(waiting.length - WAITING_SHOWN, "more node that waits", "more nodes that wait")}:{" "}
          <button type="button" className="link" onClick={() => setQuery({ tab: "table" })}>the table</button> has all
        </p>
      )}
    </header>
  );
}

const WAITING_SHOWN = 3;
const SMALL = 500;

function Node({ path }: { path: string }) {
  return <button type="button" className="link mono" onClick={() => setQuery({ node: path })}>{path}</button>;
}

function waitsFor({ kind, prompt, name, wake_at }: Waiting, now: number): string {
  const until = wake_at == null ? "" : wake_at > now ? `, ${ago(wake_at, now).replace("in", "for")} at most` : ", which is over";
  if (kind === "answer") return `asks: ${prompt ?? ""}`;
  if (kind === "signal") return `waits for the signal ${name}${until}`;
  return wake_at == null ? "waits" : `sleeps until ${local(wake_at)}`;
}

function Figures({ view, detail }: { view: ExecutionView; detail: ExecutionDetail | null }) {
  const runs = view.status === "running" && !view.stale;
  const now = useClock(1, runs);
  const instant = useInstant();
  const metrics = detail?.metrics;
  const total = view.total ?? 0;
  const counts = view.counts ?? {};
  const ended = (counts.completed ?? 0) + (counts.failed ?? 0) + (counts.skipped ?? 0) + (counts.cancelled ?? 0);
  const elapsed = view.started_at == null ? null
    : view.ended_at ? seconds(view.ended_at - view.started_at)
    : runs ? (instant === null ? ticking : seconds)(now - view.started_at) : metrics?.elapsed_s ? seconds(metrics.elapsed_s) : null;
  const path = metrics?.critical_path ?? [];
  // While it runs these are as old as the last answer: of a small one two seconds.
  const settled = !runs || total <= SMALL;
  return (
    <dl className="figures">
      <div className="wide">
        <dt>ended</dt>
        <dd className="of">
          <span>{count(ended)} <span className="muted">of {count(total)}</span></span>
          {view.counts && <Progress counts={view.counts} total={total} />}
          {view.counts && <CountList counts={view.counts} />}
        </dd>
      </div>
      {elapsed && <Figure name="elapsed" title={`started ${local(view.started_at)}`}>{elapsed}</Figure>}
      {!elapsed && view.created_at && <Figure name="created">{ago(view.created_at, now)}</Figure>}
      {runs && view.rate != null && <Figure name="rate" title="ended nodes a second, over the last 3 s">{rate(view.rate)}</Figure>}
      {settled && metrics?.parallelism != null && metrics.parallelism > 0 && (
        <Figure name="parallel" title="busy time by elapsed time">{metrics.parallelism.toFixed(1)}×</Figure>
      )}
      <Figure name="retries" title="attempts after the first, also those that a resume made">{count(view.retries ?? metrics?.retries ?? 0)}</Figure>
      {settled && path.length > 0 && (
        <Figure name="critical path" title={path.join(" → ")}>
          {seconds(metrics?.critical_s)}, ends with <Node path={path.at(-1)!} />
        </Figure>
      )}
      {view.tokens != null && view.tokens > 0 && (
        <Figure name="tokens" title="what models took, all attempts together">
          {count(view.tokens)}{view.cost != null && view.cost > 0 && <span className="muted"> {dollars(view.cost)}</span>}
        </Figure>
      )}
      {settled && detail?.size_bytes != null && <Figure name="on disk">{size(detail.size_bytes)}</Figure>}
    </dl>
  );
}

function Figure({ name, title, children }: { name: string; title?: string; children: React.ReactNode }) {
  return (
    <div title={title}>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}
