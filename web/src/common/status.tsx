import type { ReactNode } from "react";
import type { Counts, NodeStatus, Status } from "../api/types";
import { count } from "./format";

/** In the order in which one wants to hear of them. */
export const NODE_STATUSES: readonly NodeStatus[] = [
  "failed", "suspended", "retrying", "running", "scheduled", "completed", "skipped", "cancelled", "pending",
];

export const TERMINAL: ReadonlySet<string> = new Set(["completed", "failed", "skipped", "cancelled"]);

// Every status has a shape of its own in a box of 16: told apart without colour and at 12 px.
const SHAPES: Record<Status, ReactNode> = {
  pending: <circle cx="8" cy="8" r="5.5" strokeDasharray="1.6 2.2" />,
  scheduled: (
    <>
      <circle cx="8" cy="8" r="5.8" />
      <path d="M8 4.8V8l2.3 1.6" />
    </>
  ),
  running: (
    <>
      <circle cx="8" cy="8" r="5.8" opacity="0.3" />
      <path className="spin" d="M8 2.2A5.8 5.8 0 0 1 13.8 8" />
      <circle cx="8" cy="8" r="2.2" className="solid" />
    </>
  ),
  suspended: (
    <>
      <rect x="2.4" y="2.4" width="11.2" height="11.2" rx="3" />
      <path d="M6.2 5.6v4.8M9.8 5.6v4.8" />
    </>
  ),
  retrying: (
    <>
      <path d="M13 8.2A5 5 0 1 1 11.4 4.3" />
      <path d="M11.7 1.6v3h-3" />
    </>
  ),
  completed: (
    <>
      <circle cx="8" cy="8" r="6.4" className="solid" />
      <path className="cut" d="M5 8.2l2.2 2.2L11.2 6" />
    </>
  ),
  failed: (
    <>
      <path className="solid" d="M5.4 1.6h5.2l3.8 3.8v5.2l-3.8 3.8H5.4l-3.8-3.8V5.4z" />
      <path className="cut" d="M5.7 5.7l4.6 4.6M10.3 5.7l-4.6 4.6" />
    </>
  ),
  skipped: (
    <>
      <path d="M2.5 4.2L6.5 8l-4 3.8M7.5 4.2l4 3.8-4 3.8" />
      <path d="M13.6 4.2v7.6" />
    </>
  ),
  cancelled: (
    <>
      <circle cx="8" cy="8" r="5.8" />
      <path d="M4.1 11.9l7.8-7.8" />
    </>
  ),
  stale: (
    <>
      <path d="M8 2.2l6.2 11.2H1.8z" />
      <path d="M8 6.4v3.2M8 11.4v.3" />
    </>
  ),
};

export function StatusIcon({ status, size = 14 }: { status: Status; size?: number }) {
  return (
    <svg className={`mark mark-${status}`} width={size} height={size} viewBox="0 0 16 16" aria-hidden="true">
      {SHAPES[status] ?? SHAPES.pending}
    </svg>
  );
}

/** Mark and word. `was`: its owner is dead, so that nothing runs any more. */
export function StatusText({ status, more, was }: { status: Status; more?: string | null; was?: boolean }) {
  return (
    <span className={`status status-${status}`}>
      <StatusIcon status={status} />
      <span>
        {was && status === "running" ? "was running" : status}
        {more ? ` ${more}` : ""}
      </span>
    </span>
  );
}

/** How far: a bar in the order done, failed, running …, and its numbers for those who can't see it. */
export function Progress({ counts, total, label }: { counts: Counts; total: number; label?: string }) {
  const parts = (["completed", "failed", "cancelled", "skipped", "retrying", "suspended", "running"] as const)
    .map((status) => [status, counts[status] ?? 0] as const)
    .filter(([, n]) => n > 0);
  const done = parts.reduce((sum, [status, n]) => sum + (TERMINAL.has(status) ? n : 0), 0);
  const said = label ?? `${count(done)} of ${count(total)} done`;
  return (
    <span className="progress" role="img" aria-label={said} title={said}>
      {parts.map(([status, n]) => (
        <span key={status} className={`part part-${status}`} style={{ flexGrow: n }} />
      ))}
      <span className="part" style={{ flexGrow: Math.max(0, total - parts.reduce((sum, [, n]) => sum + n, 0)) }} />
    </span>
  );
}

/** `12 completed · 1 failed`, with marks. */
export function CountList({ counts }: { counts: Counts }) {
  return (
    <span className="counts">
      {NODE_STATUSES.filter((status) => (counts[status] ?? 0) > 0).map((status) => (
        <span key={status} className={`status status-${status}`} title={`${count(counts[status])} ${status}`}>
          <StatusIcon status={status} size={12} />
          {count(counts[status])}
        </span>
      ))}
    </span>
  );
}
