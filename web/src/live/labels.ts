// What a diagram calls its nodes instead of their ids.

import type { Drawn } from "../api/types";

/** The label of the node of a path, null if it has none of its own. */
export type Labels = (path: string) => string | null;

const ITEM = /\[\d+\]/g;

export function labels(drawn: Drawn | null): Labels {
  const found = new Map<string, string>();
  const add = (within: Drawn, prefix: string) => {
    for (const { id, label } of within.nodes) if (label && label !== id) found.set(prefix + id, label);
    for (const { id, drawn } of within.groups) if (drawn) add(drawn, `${prefix}${id}/`);
  };
  if (drawn !== null) add(drawn, "");
  if (found.size === 0) return () => null;
  return (path) => (path.endsWith("]") ? null : (found.get(path) ?? found.get(path.replace(ITEM, "")) ?? null));
}
