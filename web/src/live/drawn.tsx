// The diagram beside the live views: views tell only of nodes that something has happened to.

import { createContext, useContext, useMemo } from "react";
import type { Drawn, NodeView } from "../api/types";
import { type Labels, labels } from "./labels";

const DrawnContext = createContext<Drawn | null>(null);

export const DrawnProvider = DrawnContext.Provider;

/** The execution's diagram, null until it has come. */
export const useDrawn = (): Drawn | null => useContext(DrawnContext);

/** What people call nodes. */
export function useLabels(): Labels {
  const drawn = useDrawn();
  return useMemo(() => labels(drawn), [drawn]);
}

/** Views of the diagram's nodes as long as nothing has happened to them, in the diagram's order. */
export function pendingViews(drawn: Drawn | null): ReadonlyMap<string, NodeView> {
  return new Map((drawn?.nodes ?? []).map(({ id, type }) => [id, { id, type, status: "pending" }]));
}

export function usePendingViews(): ReadonlyMap<string, NodeView> {
  const drawn = useDrawn();
  return useMemo(() => pendingViews(drawn), [drawn]);
}

/** All nodes: those of the diagram in its order, then what is inside groups. */
export function withPending(
  nodes: ReadonlyMap<string, NodeView>,
  pending: ReadonlyMap<string, NodeView>,
): ReadonlyMap<string, NodeView> {
  if (pending.size === 0) return nodes;
  const all = new Map(pending);
  for (const [path, view] of nodes) all.set(path, view);
  return all;
}
