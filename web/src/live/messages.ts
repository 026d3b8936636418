import type { ContextView, ExecutionView, NodeView } from "../api/types";

/** Of a snapshot everything, of an update the masked fields only; null for what is gone. */
export interface Payload {
  execution?: Partial<ExecutionView> | null;
  nodes?: Record<string, Partial<NodeView> | null>;
  context?: Partial<ContextView> | null;
}

interface Sequenced {
  execution_id: string;
  sequence: number;
  stream: string;
  /** When the server sent it, in seconds since 1970. */
  timestamp?: number;
  payload: Payload;
}

export type Message =
  | (Sequenced & { event_type: "snapshot" })
  | (Sequenced & { event_type: "state_update"; update_mask: string[] })
  | { event_type: "end" }
  | { event_type: "error"; message: string; gone?: boolean };
