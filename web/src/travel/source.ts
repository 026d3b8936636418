// What can be seen of an execution at an instant. Views that are alike stay the same objects, so that of ten
// thousand nodes only those are drawn again that were different.

import type { Connection, Source } from "../api/source";
import type { ContextView, ExecutionView, NodeView } from "../api/types";
import type { Moment } from "./moment";

type Listener = () => void;

export class MomentSource implements Source {
  private shown: ReadonlyMap<string, NodeView> = new Map();
  private whole: ExecutionView | null = null;
  private readonly ofNode = new Map<string, Set<Listener>>();
  private readonly ofNodes = new Set<(paths: ReadonlySet<string> | null) => void>();
  private readonly ofRest = new Set<Listener>();
  at: number | null = null;
  /** What it was computed from. */
  of: unknown = null;

  constructor(private readonly live: Source) {}

  get id(): string {
    return this.live.id;
  }

  execution = (): ExecutionView | null => this.whole;
  node = (path: string): NodeView | undefined => this.shown.get(path);
  nodes = (): ReadonlyMap<string, NodeView> => this.shown;
  /** Only what it is now is known of it. */
  context = (): ContextView | null => this.live.context();
  connection = (): Connection => "still";
  open = (groups: readonly string[]): void => this.live.open(groups);

  onNode = (path: string, listener: Listener): Listener => {
    const set = this.ofNode.get(path) ?? new Set();
    this.ofNode.set(path, set);
    set.add(listener);
    return () => {
      set.delete(listener);
      if (set.size === 0 && this.ofNode.get(path) === set) this.ofNode.delete(path);
    };
  };

  onNodes = (listener: (paths: ReadonlySet<string> | null) => void): Listener => {
    this.ofNodes.add(listener);
    return () => this.ofNodes.delete(listener);
  };

  onExecution = (listener: Listener): Listener => {
    this.ofRest.add(listener);
    return () => this.ofRest.delete(listener);
  };

  /** Show another instant. */
  show(moment: Moment, of: unknown = null): void {
    const nodes = new Map<string, NodeView>();
    const changed = new Set<string>();
    for (const [path, view] of moment.nodes) {
      const before = this.shown.get(path);
      if (before !== undefined && alike(before, view)) nodes.set(path, before);
      else {
        nodes.set(path, view);
        changed.add(path);
      }
    }
    for (const path of this.shown.keys()) if (!nodes.has(path)) changed.add(path);
    this.at = moment.at;
    this.of = of;
    this.whole = moment.execution;
    if (changed.size > 0) {
      this.shown = nodes;
      for (const path of changed) for (const listener of [...(this.ofNode.get(path) ?? [])]) listener();
      for (const listener of [...this.ofNodes]) listener(changed);
    }
    for (const listener of [...this.ofRest]) listener();
  }
}

function alike(a: NodeView, b: NodeView): boolean {
  return (
    a.status === b.status &&
    a.iteration === b.iteration &&
    a.attempt === b.attempt &&
    a.started_at === b.started_at &&
    a.ended_at === b.ended_at &&
    a.scheduled_at === b.scheduled_at &&
    a.wake_at === b.wake_at &&
    a.type === b.type &&
    a.error === b.error &&
    JSON.stringify(a.group ?? null) === JSON.stringify(b.group ?? null)
  );
}
