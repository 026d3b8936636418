// One attempt among others: which it is, when it was, why it was made.

import type { ReactNode } from "react";
import { useOf } from "../api/source";
import type { NodeStatus } from "../api/types";
import { setQuery } from "../app/route";
import { clock, seconds } from "../common/format";
import { StatusIcon, StatusText } from "../common/status";
import { useClock } from "../live/clock";
import { useCells } from "../timeline/feed";
import { mark } from "../travel/moment";
import type { Attempt, NodeDetail } from "./types";
import { moves, why } from "./why";

/** Which iteration and attempt is looked at. */
export function Turns({ attempts, at }: { attempts: readonly Attempt[]; at: number }) {
  const go = (to: number) => {
    const one = attempts[to];
    if (one === undefined) return;
    const last = to === attempts.length - 1;
    setQuery({ iteration: last ? null : one.iteration, attempt: last ? null : one.attempt }, true);
  };
  const name = (one: Attempt) =>
    `${one.iteration === "1" && attempts.at(-1)?.iteration === "1" ? "" : `iteration ${one.iteration}, `}attempt ${one.attempt}: ${one.status}`;
  return (
    <div className="turns">
      <button
        type="button"
        className="plain"
        aria-label="The one before"
        disabled={at <= 0}
        onClick={() => go(at - 1)}
      >
        ‹
      </button>
      <select
        aria-label="Iteration and attempt"
        value={at}
        onChange={(event) => go(Number(event.target.value))}
      >
        {attempts.map((one, n) => (
          <option key={n} value={n}>
            {name(one)}
          </option>
        ))}
      </select>
      <button
        type="button"
        className="plain"
        aria-label="The one after"
        disabled={at >= attempts.length - 1}
        onClick={() => go(at + 1)}
      >
        ›
      </button>
    </div>
  );
}

export function Times({ detail, status, over }: { detail: NodeDetail; status: NodeStatus; over: boolean }) {
  const stale = useOf((source) => source.execution()?.status === "stale"); // since when is not known
  const runs = over && ((status === "running" && !stale) || status === "suspended");
  const now = useClock(1, runs);
  const start = status === "scheduled" || status === "pending" ? null : (detail.started_at ?? null);
  const took = start === null || !over ? null : (detail.ended_at ?? (runs ? now : null));
  const queued = start !== null && detail.scheduled_at != null ? start - detail.scheduled_at : null;
  const facts: [string, ReactNode][] = [];
  if (start !== null) facts.push(["started", clock(start, true)]);
  if (queued !== null && queued >= 0.001) facts.push(["queued", seconds(queued)]);
  if (took !== null && start !== null)
    facts.push([status === "suspended" ? "waits" : "took", seconds(Math.max(0, took - start))]);
  if (over && detail.port) facts.push(["port", detail.port]);
  if (over && detail.winner) facts.push(["first", detail.winner]);
  if (over && status === "retrying" && detail.wake_at != null)
    facts.push(["again at", clock(detail.wake_at, true)]);
  if ((detail.claims ?? 0) > 1) facts.push(["started", `${detail.claims} times`]);
  if (detail.worker)
    facts.push([
      "worker",
      <span key="w" className="mono">
        {detail.worker}
      </span>,
    ]);
  if (facts.length === 0) return null;
  return (
    <dl className="facts">
      {facts.map(([name, value], n) => (
        <div key={n}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

export function Attempts({ path, attempts, at }: { path: string; attempts: readonly Attempt[]; at: number }) {
  const { cells } = useCells();
  const rounds = new Map(
    (cells?.of(path) ?? []).map((cell) => [`${cell.iteration} ${cell.attempt}`, cell.round]),
  );
  const round = (one: Attempt | undefined) =>
    one ? (rounds.get(`${one.iteration} ${one.attempt}`) ?? null) : null;
  return (
    <ol className="attempts">
      {attempts.map((one, n) => {
        const before = attempts[n - 1];
        const reason = why(one, before ?? null, round(one), round(before));
        return (
          <li key={n}>
            <button
              type="button"
              className={n === at ? "at" : ""}
              aria-current={n === at || undefined}
              onClick={() => setQuery({ iteration: one.iteration, attempt: one.attempt }, true)}
            >
              <StatusIcon status={one.status} />
              <span>
                {one.iteration !== "1" && `iteration ${one.iteration}, `}attempt {one.attempt}
              </span>
              <span className="grow muted cut-text">
                {one.error ? `${one.error.type}: ${one.error.message}` : (one.port ?? "")}
              </span>
              <span className="muted">{seconds(one.seconds)}</span>
            </button>
            {reason && <p className="muted">{reason}</p>}
          </li>
        );
      })}
    </ol>
  );
}

const SHOWN = 200;

export function History({ attempts }: { attempts: readonly Attempt[] }) {
  const all = moves(attempts);
  const several = attempts.length > 1;
  const turns = attempts.some((one) => one.iteration !== "1");
  return (
    <ol className="history">
      {all.slice(-SHOWN).map((one, n) => (
        <li key={n}>
          <button
            type="button"
            className="link mono"
            title="Show this instant"
            onClick={() => setQuery({ at: mark(one.at).toFixed(6) })}
          >
            {clock(one.at, true)}
          </button>
          <StatusText status={one.to} />
          {several && (
            <span className="muted">
              {turns && `${one.iteration}/`}
              {one.attempt}
            </span>
          )}
          <span className="muted cut-text" title={one.note}>
            {one.note}
          </span>
        </li>
      ))}
      {all.length === 0 && <li className="muted">Nothing has happened to it.</li>}
    </ol>
  );
}
