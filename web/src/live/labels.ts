// What a diagram calls its nodes instead of their ids.

import type { Drawn, DrawnNode } from "../api/types";

/** The label of the node of a path, null if it has none of its own. */
export type Labels = (path: string) => string | null;

const ITEM = /\[\d+\]/g;

/** The label of a node of a diagram, null if it is but its id. */
export const labelOf = ({ id, label }: DrawnNode): string | null => (label && label !== id ? label : null);

export function labels(drawn: Drawn | null): Labels {
  const found = new Map<string, string>();
  const add = (within: Drawn, prefix: string) => {
    for (const node of within.nodes) {
      const label = labelOf(node);
      if (label !== null) found.set(prefix + node.id, label);
    }
    for (const { id, drawn } of within.groups) if (drawn) add(drawn, `${prefix}${id}/`);
  };
  if (drawn !== null) add(drawn, "");
  if (found.size === 0) return () => null;
  return (path) => (path.endsWith("]") ? null : (found.get(path) ?? found.get(path.replace(ITEM, "")) ?? null));
}
