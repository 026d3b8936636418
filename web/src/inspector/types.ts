import type { ErrorView, Json, NodeStatus, NodeView, Value } from "../api/types";

/** One attempt in one iteration. `kept`: it counts for the diagram as it is recorded now. */
export interface Attempt {
  iteration: string;
  attempt: number;
  status: NodeStatus;
  scheduled_at?: number | null;
  started_at?: number | null;
  ended_at?: number | null;
  wake_at?: number | null;
  seconds?: number | null;
  port?: string | null;
  error?: ErrorView | null;
  traceback?: string | null;
  claims?: number;
  worker?: string | null;
  lineage?: string | null;
  kept?: boolean | null;
  request?: Record<string, Json> | null;
}

/** All that is known of a node, of which one attempt is looked at. */
export interface NodeDetail extends NodeView {
  attempts: Attempt[];
  inputs: Value;
  inputs_error?: string | null;
  output: Value;
  meta?: Json;
  traceback?: string | null;
  details?: Json;
  lineage?: string | null;
  properties?: Record<string, Json>;
  source?: { file: string; line: number } | null;
  upstream: string[];
  downstream: string[];
}

export interface LogLine {
  id: number;
  node: string;
  iteration: string;
  attempt: number;
  at: number;
  stream: "stdout" | "stderr" | "log" | "note" | string;
  text: string;
  level?: string | null;
  logger?: string | null;
}
