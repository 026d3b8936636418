import type { Source } from "../api/source";
import type { NodeView } from "../api/types";

/** A source in which nothing has happened and nothing will. */
export function stillSource(id: string): Source {
  const none: ReadonlyMap<string, NodeView> = new Map();
  const never = () => () => undefined;
  return {
    id,
    execution: () => null,
    node: () => undefined,
    nodes: () => none,
    context: () => null,
    connection: () => "still",
    onNode: never,
    onNodes: never,
    onExecution: never,
    open: () => undefined,
  };
}
