// What differs between two executions, as the server says it, and in which order it is shown.

import type * as api from "../api/schema";
import type { ExecutionStatus, Json, NodeStatus } from "../api/types";

/** Places in a value that differ; one that has no `a` or no `b` is missing there. */
export type Places = { count: number; note?: api.Spots["note"]; places: (Pick<api.Spot, "path"> & { a?: Json; b?: Json })[] };
export type Side = As<api.Side, { status: ExecutionStatus }>;
export type Pair<T> = [T, T] | null | undefined;
export type NodeDiff = Pick<api.NodeDiff, "node" | "iteration"> &
  Partial<As<Omit<api.NodeDiff, "node" | "iteration">, { status: Pair<NodeStatus>; output: Places | null }>>;

interface Better {
  a: Side;
  b: Side;
  nodes: NodeDiff[];
  status?: Pair<ExecutionStatus>;
  error?: Pair<string | null>;
  inputs?: Places | null;
  context?: Places | null;
  output?: Places | null;
}
export type Difference = As<api.Diff, Better>;
type As<T, U> = Omit<T, keyof U> & U;

export const PARTS = ["only", "status", "output", "error", "times", "code"] as const;
export type Part = (typeof PARTS)[number];

/** In which ways a node differs. */
export function partsOf(node: NodeDiff, diagram: Difference["diagram"]): Set<Part> {
  const found = new Set<Part>();
  if (node.only) found.add("only");
  if (node.status || node.port || node.attempts) found.add("status");
  if (node.output) found.add("output");
  if (node.error) found.add("error");
  if (node.seconds) found.add("times");
  if (diagram.changed[node.node] !== undefined) found.add("code");
  return found;
}

export interface Shown {
  node: NodeDiff;
  parts: Set<Part>;
}

/** The nodes that differ so; those that changed only in their code are among them. */
export function shown(found: Difference, part: Part | null): Shown[] {
  const all = found.nodes.map((node) => ({ node, parts: partsOf(node, found.diagram) }));
  const seen = new Set(found.nodes.map((node) => node.node));
  for (const name of Object.keys(found.diagram.changed)) {
    if (!seen.has(name)) all.push({ node: { node: name, iteration: "1" }, parts: new Set<Part>(["code"]) });
  }
  return part === null ? all : all.filter((one) => one.parts.has(part));
}

/** From here on one took longer than the other. */
const APART = 1.05;

/** How much slower or faster b was: `1.8× as long`, `2.0× as fast`; nothing where they are about the same. */
export function ratio([a, b]: readonly [number, number]): string {
  if (a <= 0 || b <= 0 || Math.max(a / b, b / a) < APART) return "";
  return b >= a ? `${(b / a).toPrecision(2)}× as long` : `${(a / b).toPrecision(2)}× as fast`;
}

/** A value in one line. */
export function brief(value: Json, most = 160): string {
  const text = typeof value === "string" ? JSON.stringify(value) : (JSON.stringify(value) ?? "");
  return text.length > most ? `${text.slice(0, most)}…` : text;
}
