// What the page knows of one execution now. Whoever draws one node hears of that node only, and at most once a
// frame: at a thousand changes a second nothing else is bearable.

import type { Connection } from "../api/source";
import type { ContextView, ExecutionView, NodeView } from "../api/types";
import type { Message } from "./messages";
import { parentOf } from "./paths";
import { apply, type Known, nothing, type Touched, untouched } from "./reduce";

type Listener = () => void;
type NodesListener = (paths: ReadonlySet<string> | null) => void;
type Schedule = (flush: () => void) => void;

const HIDDEN_MS = 250;

/** Before the next frame; a hidden tab gets none, so there every now and then. */
const frame: Schedule = (flush) => {
  if (document.hidden) setTimeout(flush, HIDDEN_MS);
  else requestAnimationFrame(flush);
};

export class ExecutionStore {
  private readonly known: Known = nothing();
  private copy: ReadonlyMap<string, NodeView> | null = null;
  private touched: Touched = untouched();
  private scheduled = false;
  private state: Connection = "connecting";
  private ahead: number | null = null;
  private readonly ofNode = new Map<string, Set<Listener>>();
  private readonly ofNodes = new Set<NodesListener>();
  private readonly ofRest = new Set<Listener>();

  constructor(
    readonly id: string,
    private readonly schedule: Schedule = frame,
  ) {}

  execution = (): ExecutionView | null => this.known.execution;
  context = (): ContextView | null => this.known.context;
  connection = (): Connection => this.state;
  node = (path: string): NodeView | undefined => this.known.nodes.get(path);
  nodes = (): ReadonlyMap<string, NodeView> => {
    this.copy ??= new Map(this.known.nodes);
    return this.copy;
  };
  /** The clock of the server minus ours, in seconds. */
  skew = (): number => this.ahead ?? 0;
  /** Where to go on after the connection was lost. */
  place = (): { stream: string | null; sequence: number } => this.known;

  onNode = (path: string, listener: Listener): Listener => {
    const set = this.ofNode.get(path) ?? new Set();
    this.ofNode.set(path, set);
    set.add(listener);
    return () => {
      set.delete(listener);
      if (set.size === 0 && this.ofNode.get(path) === set) this.ofNode.delete(path);
    };
  };

  onNodes = (listener: NodesListener): Listener => {
    this.ofNodes.add(listener);
    return () => this.ofNodes.delete(listener);
  };

  onExecution = (listener: Listener): Listener => {
    this.ofRest.add(listener);
    return () => this.ofRest.delete(listener);
  };

  receive(message: Message, now = Date.now() / 1000): void {
    if ("timestamp" in message && message.timestamp) {
      // what was longest on its way says least of the clocks
      this.ahead = Math.max(this.ahead ?? -Infinity, message.timestamp - now);
    }
    apply(this.known, message, this.touched);
    this.wake();
  }

  connected(state: Connection): void {
    if (state === this.state) return;
    this.state = state;
    for (const listener of [...this.ofRest]) listener();
  }

  /** Forget the nodes in groups that nobody looks at any more: nothing more is heard of them. */
  keep(groups: ReadonlySet<string>): void {
    if (groups.has("*")) return;
    for (const path of [...this.known.nodes.keys()]) {
      const parent = parentOf(path);
      if (parent !== null && !groups.has(parent) && this.known.nodes.delete(path))
        this.touched.nodes.add(path);
    }
    if (this.touched.nodes.size > 0) this.wake();
  }

  private wake(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    this.schedule(() => this.flush());
  }

  private flush(): void {
    this.scheduled = false;
    const touched = this.touched;
    this.touched = untouched();
    if (touched.all || touched.nodes.size > 0) {
      this.copy = null;
      if (touched.all)
        for (const set of [...this.ofNode.values()]) for (const listener of [...set]) listener();
      else
        for (const path of touched.nodes)
          for (const listener of [...(this.ofNode.get(path) ?? [])]) listener();
      for (const listener of [...this.ofNodes]) listener(touched.all ? null : touched.nodes);
    }
    if (touched.execution || touched.context) for (const listener of [...this.ofRest]) listener();
  }
}
