// Why there is another attempt, and what an attempt went through.

import type { NodeStatus } from "../api/types";
import type { Attempt } from "./types";

/** Why an attempt was made, from the one before it in its iteration. Null of a first one. */
export function why(
  attempt: Attempt,
  before: Attempt | null,
  round: number | null = null,
  roundBefore: number | null = null,
): string | null {
  if (before === null || before.iteration !== attempt.iteration) return null;
  if (before.lineage && attempt.lineage && before.lineage !== attempt.lineage) {
    return "run again: the node, or something before it, was changed";
  }
  if (round !== null && roundBefore !== null && round !== roundBefore) {
    return `run again by a resume: it was ${before.status}`;
  }
  if (before.status === "failed" || before.status === "retrying")
    return `a retry after ${before.error?.type ?? "a failure"}`;
  return `run again: it was ${before.status}`;
}

export interface Moved {
  at: number;
  iteration: string;
  attempt: number;
  to: NodeStatus;
  note: string;
}

/** The moves of all attempts, in the order of their instants. */
export function moves(attempts: readonly Attempt[]): Moved[] {
  const found: Moved[] = [];
  for (const one of attempts) {
    const add = (at: number | null | undefined, to: NodeStatus, note = "") => {
      if (at != null) found.push({ at, iteration: one.iteration, attempt: one.attempt, to, note });
    };
    add(one.scheduled_at, "scheduled");
    add(
      one.started_at,
      "running",
      (one.claims ?? 0) > 1 ? `started ${one.claims} times: crashes interrupted it` : "",
    );
    if (one.status === "suspended")
      add(one.started_at, "suspended", String(one.request?.prompt ?? one.request?.kind ?? ""));
    add(
      one.ended_at,
      one.status,
      one.error ? `${one.error.type}: ${one.error.message}` : one.port ? `port ${one.port}` : "",
    );
  }
  return found.sort((a, b) => a.at - b.at);
}
