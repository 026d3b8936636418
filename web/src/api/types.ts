/** What the server answers. Instants are seconds since 1970; what is null may be absent. */

export type NodeStatus =
  | "pending"
  | "scheduled"
  | "running"
  | "suspended"
  | "retrying"
  | "completed"
  | "failed"
  | "skipped"
  | "cancelled";

export type ExecutionStatus =
  | "pending"
  | "running"
  | "suspended"
  | "completed"
  | "failed"
  | "cancelled"
  | "stale";

export type Status = NodeStatus | ExecutionStatus;
export type Counts = Partial<Record<NodeStatus, number>>;
// biome-ignore lint/suspicious/noExplicitAny: JSON
export type Json = any;
/** A JSON Schema. */
export type Schema = { [key: string]: Json };

export interface ErrorView {
  type: string;
  message: string;
  node?: string | null;
  traceback?: string | null;
}

/** A row of the list. */
export interface Summary {
  id: string;
  name: string;
  status: ExecutionStatus;
  stale?: boolean;
  round?: number;
  created_at?: number | null;
  started_at?: number | null;
  ended_at?: number | null;
  deadline_at?: number | null;
  parent?: string | null;
  owner?: string | null;
  error?: ErrorView | null;
  diagram?: string | null;
  nodes?: number | null;
  /** Completed ones. */
  done?: number | null;
  failed?: number | null;
  /** Those that have ended, however; without it `done` and `failed` are taken for it. */
  ended?: number | null;
  size_bytes?: number | null;
}

export interface ExecutionView extends Omit<Summary, "nodes" | "failed"> {
  counts?: Counts | null;
  total?: number | null;
  retries?: number | null;
  /** Ended nodes a second, over 3 s. */
  rate?: number | null;
  last_log?: number | null;
  tokens?: number | null;
}

/** The request of a suspended node. */
export interface Request {
  kind: string;
  prompt?: string | null;
  schema?: Schema | null;
  name?: string | null;
}

export interface GroupView {
  kind: "map" | "loop" | "sub";
  total: number;
  counts: Counts;
}

/** The latest iteration and attempt of one path. */
export interface NodeView {
  id: string;
  type?: string | null;
  status: NodeStatus;
  iteration?: string;
  attempt?: number;
  scheduled_at?: number | null;
  started_at?: number | null;
  ended_at?: number | null;
  wake_at?: number | null;
  port?: string | null;
  error?: ErrorView | null;
  claims?: number | null;
  worker?: string | null;
  winner?: string | null;
  content_type?: string | null;
  has_output?: boolean;
  blob?: string | null;
  request?: Request | null;
  group?: GroupView | null;
}

export interface ContextView {
  artifacts: Record<string, Json>;
  variables: Record<string, Json>;
  plugins: Record<string, Json>;
}

/** A decoded value up to 64 KB, else a preview of it and where the whole is. */
export interface Value {
  value: Json;
  content_type?: string | null;
  size: number | null;
  truncated?: boolean;
  url?: string | null;
}

export interface Waiting {
  node: string;
  iteration: string;
  kind: string;
  prompt?: string | null;
  schema?: Schema | null;
  name?: string | null;
  wake_at?: number | null;
}

export interface Metrics {
  elapsed_s?: number | null;
  busy_s?: number | null;
  rate?: number | null;
  retries?: number | null;
  parallelism?: number | null;
  critical_path?: string[] | null;
  critical_s?: number | null;
  slowest?: Json;
}

export interface ExecutionDetail extends ExecutionView {
  inputs?: Value | null;
  output?: Value | null;
  options?: Json;
  plugins?: Json;
  waiting?: Waiting[];
  metrics?: Metrics | null;
}

export interface DrawnInput {
  type?: string | null;
  default?: Json;
  description?: string | null;
  required?: boolean | null;
  schema?: Schema | null;
}

export interface DrawnNode {
  id: string;
  type: string;
  label?: string | null;
  group?: string | null;
  loop?: string | null;
  properties?: Record<string, Json> | null;
}

export interface DrawnArrow {
  source: string;
  port: string;
  target: string;
  input?: string | null;
  label?: string | null;
  back?: boolean;
}

export interface DrawnGroup {
  id: string;
  kind: "map" | "sub" | "loop";
  nodes?: string[];
  drawn?: Drawn | null;
}

export interface Fault {
  severity: "error" | "warning" | "note" | string;
  message: string;
  file?: string | null;
  line?: number | null;
  node?: string | null;
  hint?: string | null;
}

/** A diagram as it is drawn. */
export interface Drawn {
  name: string;
  hash?: string | null;
  description?: string | null;
  inputs: Record<string, DrawnInput>;
  nodes: DrawnNode[];
  arrows: DrawnArrow[];
  groups: DrawnGroup[];
  faults?: Fault[];
}

export interface PlanChange {
  node: string;
  what: "kept" | "changed" | "new" | "removed" | "again";
  why?: string | null;
}

/** What a resume would do. */
export interface Plans {
  changes: PlanChange[];
  redrawn?: boolean;
  held?: boolean;
  kept_results: number;
}

export interface DiagramFile {
  file: string;
  name: string;
  valid: boolean;
}

export interface StoredDiagram {
  hash: string;
  name: string;
  executions: number;
  last_id?: string | null;
  last_at?: number | null;
}

export interface Diagrams {
  files: DiagramFile[];
  stored: StoredDiagram[];
}

export interface Page<T> {
  items: T[];
  next?: string | null;
}

/** Cells of an execution, a row each. */
export interface TimelineData {
  fields: string[];
  rows: Json[][];
}
