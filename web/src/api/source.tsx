import { createContext, type ReactNode, useCallback, useContext, useRef, useSyncExternalStore } from "react";
import type { ContextView, ExecutionView, NodeView } from "./types";

/** How a source stands to the server. `still`: it doesn't change (an instant, a file). */
export type Connection = "connecting" | "live" | "reconnecting" | "refused" | "gone" | "still";

/**
 * What can be seen of one execution, now or at an instant. Views are never changed in place: a change puts a new
 * view into its place, so a view is a good snapshot for React. Listeners are called at most once a frame.
 */
export interface Source {
  readonly id: string;
  execution(): ExecutionView | null;
  node(path: string): NodeView | undefined;
  /** All nodes in scope by path; the same map until something in it changes. */
  nodes(): ReadonlyMap<string, NodeView>;
  context(): ContextView | null;
  connection(): Connection;
  /** Called when this node's view changed; answers the call that ends it. */
  onNode(path: string, listener: () => void): () => void;
  /** Called with the paths that changed, or with null when it may be all. */
  onNodes(listener: (paths: ReadonlySet<string> | null) => void): () => void;
  /** Called when the execution's view, the context or the connection changed. */
  onExecution(listener: () => void): () => void;
  /** The groups whose inner nodes are wanted, instead of those named before. */
  open(groups: readonly string[]): void;
}

export interface LiveSource extends Source {
  /** The clock of the server minus ours, in seconds. */
  skew(): number;
  close(): void;
}

const SourceContext = createContext<Source | null>(null);

export function SourceProvider({ source, children }: { source: Source; children: ReactNode }) {
  return <SourceContext value={source}>{children}</SourceContext>;
}

export function useSource(): Source {
  const source = useContext(SourceContext);
  if (source === null) throw new Error("no SourceProvider above");
  return source;
}

export function useExecutionId(): string {
  return useSource().id;
}

export function useNode(path: string): NodeView | undefined {
  const source = useSource();
  const subscribe = useCallback((f: () => void) => source.onNode(path, f), [source, path]);
  return useSyncExternalStore(subscribe, () => source.node(path));
}

/** All nodes in scope. Costs a render at every change: for tables and sums, not for a node. */
export function useNodes(): ReadonlyMap<string, NodeView> {
  const source = useSource();
  const subscribe = useCallback((f: () => void) => source.onNodes(f), [source]);
  return useSyncExternalStore(subscribe, () => source.nodes());
}

export function useExecutionView(): ExecutionView | null {
  const source = useSource();
  const subscribe = useCallback((f: () => void) => source.onExecution(f), [source]);
  return useSyncExternalStore(subscribe, () => source.execution());
}

export function useContextView(): ContextView | null {
  const source = useSource();
  const subscribe = useCallback((f: () => void) => source.onExecution(f), [source]);
  return useSyncExternalStore(subscribe, () => source.context());
}

export function useConnection(): Connection {
  const source = useSource();
  const subscribe = useCallback((f: () => void) => source.onExecution(f), [source]);
  return useSyncExternalStore(subscribe, () => source.connection());
}

/** One number or text drawn from a source; renders again only when it differs. */
export function useOf<T extends string | number | boolean | null | undefined>(of: (source: Source) => T): T {
  const source = useSource();
  const latest = useRef(of);
  latest.current = of;
  const subscribe = useCallback(
    (f: () => void) => {
      const ends = [source.onNodes(f), source.onExecution(f)];
      return () => {
        for (const end of ends) end();
      };
    },
    [source],
  );
  return useSyncExternalStore(subscribe, () => latest.current(source));
}
