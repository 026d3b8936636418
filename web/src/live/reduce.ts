// Messages of the live socket, applied to what is known so far.
// The maps are changed in place; the views in them never are: a changed view is a new object, so
// whoever holds an old one still sees what it was.

import type { ContextView, ExecutionView, NodeView } from "../api/types";
import { parts } from "./mask";
import type { Message, Payload } from "./messages";

export interface Known {
  stream: string | null;
  sequence: number;
  execution: ExecutionView | null;
  nodes: Map<string, NodeView>;
  context: ContextView | null;
}

/** What a message changed. `shape`: nodes came or went; `all`: everything may be different. */
export interface Touched {
  nodes: Set<string>;
  shape: boolean;
  execution: boolean;
  context: boolean;
  all: boolean;
}

const NO_CONTEXT: ContextView = { artifacts: {}, variables: {}, plugins: {} };

export const nothing = (): Known => ({
  stream: null,
  sequence: 0,
  execution: null,
  nodes: new Map(),
  context: null,
});
export const untouched = (): Touched => ({
  nodes: new Set(),
  shape: false,
  execution: false,
  context: false,
  all: false,
});

/** Apply one message; what it changed is added to `touched`. */
export function apply(known: Known, message: Message, touched: Touched = untouched()): Touched {
  if (message.event_type === "snapshot") {
    replace(known, message.payload);
    known.stream = message.stream;
    known.sequence = message.sequence;
    touched.all = touched.shape = touched.execution = touched.context = true;
  } else if (message.event_type === "state_update") {
    for (const path of message.update_mask) take(known, parts(path), message.payload, touched);
    known.stream = message.stream;
    known.sequence = message.sequence;
  }
  return touched;
}

function replace(known: Known, payload: Payload): void {
  known.execution = (payload.execution as ExecutionView | null | undefined) ?? null;
  known.context = payload.context ? { ...NO_CONTEXT, ...payload.context } : null;
  known.nodes.clear();
  for (const [path, view] of Object.entries(payload.nodes ?? {})) {
    if (view) known.nodes.set(path, node(path, view));
  }
}

/** Take the one place that a mask names from the payload. */
function take(known: Known, [what, key, field]: string[], payload: Payload, touched: Touched): void {
  if (what === "nodes") {
    if (key !== undefined) takeNode(known, key, field, payload.nodes?.[key], touched);
  } else if (what === "execution") {
    const given = payload.execution ?? {};
    known.execution = (
      key === undefined ? given : set(known.execution ?? {}, key, get(given, key))
    ) as ExecutionView;
    touched.execution = true;
  } else if (what === "context") {
    const given = payload.context ?? {};
    const before = known.context ?? NO_CONTEXT;
    known.context = { ...before, ...(key === undefined ? given : { [key]: get(given, key) ?? {} }) };
    touched.context = true;
  }
}

function takeNode(
  known: Known,
  path: string,
  field: string | undefined,
  given: Partial<NodeView> | null | undefined,
  touched: Touched,
): void {
  touched.nodes.add(path);
  const before = known.nodes.get(path);
  if (given === null || given === undefined) {
    touched.shape = known.nodes.delete(path) || touched.shape;
    return;
  }
  if (before === undefined) touched.shape = true;
  known.nodes.set(
    path,
    node(path, field === undefined ? given : set(before ?? {}, field, get(given, field))),
  );
}

const node = (path: string, view: Partial<NodeView>): NodeView =>
  view.id === path && view.status
    ? (view as NodeView)
    : { ...view, id: path, status: view.status ?? "pending" };

const get = (from: object, key: string): unknown => (from as Record<string, unknown>)[key] ?? null;

/** A copy with one field set; null takes it away. */
function set(from: object, key: string, value: unknown): Record<string, unknown> {
  const copy: Record<string, unknown> = { ...from };
  if (value === null) delete copy[key];
  else copy[key] = value;
  return copy;
}
