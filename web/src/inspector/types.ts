import type * as api from "../api/schema";
import type { ErrorView, NodeStatus, NodeView, Value } from "../api/types";

type Loose<T> = { [P in keyof T]?: T[P] | null };

/** One attempt in one iteration. `kept`: it counts for the diagram as it is recorded now. */
export type Attempt = Pick<api.Attempt, "iteration" | "attempt"> &
  Loose<Omit<api.Attempt, "iteration" | "attempt" | "status" | "error">> & {
    status: NodeStatus;
    error?: ErrorView | null;
  };

/** All that is known of a node, of which one attempt is looked at. */
export type NodeDetail = NodeView &
  Loose<Omit<api.NodeWhole, keyof NodeView | "attempts" | "inputs" | "output" | "upstream" | "downstream" | "recorded">> &
  Pick<api.NodeWhole, "upstream" | "downstream" | "recorded"> & {
    attempts: Attempt[];
    inputs: Value;
    output: Value;
  };

export type LogLine = Omit<api.Said, "level" | "logger"> & Loose<Pick<api.Said, "level" | "logger">>;
