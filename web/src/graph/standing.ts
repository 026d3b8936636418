// How what is drawn stands: a node by its view, a closed loop by those in it.

import type { Source } from "../api/source";
import type { Counts, NodeStatus, NodeView } from "../api/types";
import { NODE_STATUSES, TERMINAL } from "../common/status";
import type { Box, Line } from "./layout";

/** One looks for these first. */
export const ACTIVE: ReadonlySet<NodeStatus> = new Set(["running", "retrying", "suspended"]);

export function statusOf(source: Source, box: Pick<Box, "path" | "kind" | "members">): NodeStatus {
  if (box.kind === "loop") return sumUp(countsOf(source, box.members));
  return source.node(box.path)?.status ?? "pending";
}

export function countsOf(source: Source, paths: readonly string[]): Counts {
  const counts: Counts = {};
  for (const path of paths) {
    const status = source.node(path)?.status ?? "pending";
    counts[status] = (counts[status] ?? 0) + 1;
  }
  return counts;
}

/** One word for many: what one wants to hear of first. While some are done and some are to come it runs. */
export function sumUp(counts: Counts): NodeStatus {
  for (const status of NODE_STATUSES) {
    if ((counts[status] ?? 0) === 0) continue;
    if (!TERMINAL.has(status) || status === "failed") return status;
    if ((counts.pending ?? 0) > 0 && status === "completed") return "running";
    return status;
  }
  return "pending";
}

export type Flow = "waiting" | "live" | "dead" | "failed";

/** What an arrow carries, by the node that it comes from. */
export function flowOf(line: Pick<Line, "port">, source: NodeView | undefined): Flow {
  switch (source?.status) {
    case "completed":
      return (source.port ?? "default") === line.port ? "live" : "dead";
    case "failed":
      return line.port === "error" ? "live" : "failed";
    case "skipped":
    case "cancelled":
      return "dead";
    default:
      return "waiting";
  }
}
