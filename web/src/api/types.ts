// What the server answers, by its own description (schema.ts, which is drawn from openapi.json), and what the page
// knows besides: the words that a status may be, and that what is null may be absent in what the socket tells.

import type * as api from "./schema";

export type { Json } from "./schema";
type Json = api.Json;

/** All but some fields may be absent. */
type Told<T, K extends keyof T> = Pick<T, K> & { [P in Exclude<keyof T, K>]?: T[P] | null };
/** With some fields that are known better. */
type As<T, U extends { [P in keyof U]: P extends keyof T ? unknown : never }> = Omit<T, keyof U> & U;

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
/** A JSON Schema. */
export type Schema = { [key: string]: Json };

export type ErrorView = Told<api.ErrorView, "type" | "message"> & { traceback?: string | null };

/** A row of the list. */
export type Summary = Told<
  As<api.Listed, { status: ExecutionStatus; error: ErrorView | null }>,
  "id" | "name" | "status"
>;

/** An execution as the socket tells it. */
export type ExecutionView = Omit<Summary, "nodes" | "failed"> &
  Partial<Nullable<Pick<api.Whole, "total" | "retries" | "rate" | "tokens" | "cost">>> & {
    counts?: Counts | null;
    last_log?: number | null;
  };

type Nullable<T> = { [P in keyof T]: T[P] | null };

/** The request of a suspended node. */
export interface Request {
  kind: string;
  prompt?: string | null;
  schema?: Schema | null;
  name?: string | null;
  step?: string | null;
}

export type GroupView = As<api.Group, { counts: Counts }>;

/** The latest iteration and attempt of one path. */
export type NodeView = Told<
  As<
    api.NodeView,
    { status: NodeStatus; error: ErrorView | null; request: Request | null; group: GroupView | null }
  >,
  "id" | "status"
>;

export type ContextView = Omit<api.Context, "versions">;

/** A decoded value up to 64 KB, else a preview of it and where the whole is. */
export type Value = Told<api.Value, "value" | "size">;
export type Waiting = Told<As<api.Waiting, { schema: Schema | null }>, "node" | "iteration" | "kind">;
export type Metrics = Told<api.Metrics, never>;

export type ExecutionDetail = ExecutionView &
  Partial<Nullable<Pick<api.Whole, "inputs" | "output" | "options" | "plugins">>> & {
    waiting?: Waiting[];
    metrics?: Metrics | null;
  };

export type DrawnInput = Told<api.DrawnInput, never>;
export type DrawnNode = Told<api.DrawnNode, "id" | "type">;
export type DrawnArrow = Told<api.DrawnArrow, "source" | "port" | "target">;
export type DrawnGroup = Told<As<api.DrawnGroup, { drawn: Drawn | null }>, "id" | "kind">;
export type Fault = Told<api.DrawnFault, "severity" | "message">;

/** A diagram as it is drawn. */
export interface Drawn extends Told<Omit<api.Drawn, "inputs" | "nodes" | "arrows" | "groups" | "faults">, "name"> {
  inputs: Record<string, DrawnInput>;
  nodes: DrawnNode[];
  arrows: DrawnArrow[];
  groups: DrawnGroup[];
  faults?: Fault[];
}

export type PlanChange = Told<api.Planning, "node" | "what">;
/** What a resume would do. */
export type Plans = Told<As<api.Plans, { changes: PlanChange[] }>, "changes" | "kept_results">;
export type DiagramFile = api.DiagramFile;
export type StoredDiagram = api.DiagramStored;
export type Diagrams = api.DiagramList;

export interface Page<T> {
  items: T[];
  next?: string | null;
}

/** Cells of an execution, a row each. */
export type TimelineData = As<api.Timeline, { rows: Json[][] }>;
