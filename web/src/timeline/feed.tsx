// All cells of an execution: fetched once, then kept up to date from the live views. A view tells only the latest
// attempt of what is in scope, so what it can't tell is fetched again now and then.

import { createContext, type ReactNode, useContext, useMemo, useSyncExternalStore } from "react";
import { type ApiError, get, seg } from "../api/client";
import type { LiveSource, Source } from "../api/source";
import type { NodeView, TimelineData } from "../api/types";
import { Cells, decode, ENDED, ofView } from "./cells";

type Listener = () => void;

const AGAIN_MS = 2000;
/** A fetch may take this part of the time at most. */
const SHARE = 0.1;
const WAITING: ReadonlySet<string> = new Set(["user_response", "wait_for", "sleep"]);

export interface FeedState {
  cells: Cells | null;
  error: ApiError | Error | null;
}

export class Feed {
  private state: FeedState = { cells: null, error: null };
  private readonly listeners = new Set<Listener>();
  private ends: Listener[] = [];
  private timer: ReturnType<typeof setTimeout> | undefined;
  private asking = false;
  private took_ms = 0;
  private status = "";

  constructor(
    readonly source: Source,
    private readonly ask: (id: string) => Promise<TimelineData> = (id) =>
      get(`executions/${seg(id)}/timeline`),
  ) {}

  snapshot = (): FeedState => this.state;

  subscribe = (listener: Listener): Listener => {
    this.listeners.add(listener);
    if (this.listeners.size === 1) this.start();
    return () => {
      this.listeners.delete(listener);
      if (this.listeners.size === 0) this.stop();
    };
  };

  private start(): void {
    this.ends = [
      this.source.onNodes((paths) => this.changed(paths)),
      this.source.onExecution(() => this.moved()),
    ];
    // what is in scope is known already: better than to wait for the rest
    if (this.state.cells === null && this.source.nodes().size > 0) {
      const cells = new Cells();
      for (const view of this.source.nodes().values()) this.take(cells, view);
      this.state = { cells, error: null };
    }
    void this.fetch();
  }

  private stop(): void {
    for (const end of this.ends) end();
    clearTimeout(this.timer);
    this.timer = undefined;
  }

  /** The time by the server's clock, in seconds. */
  now = (): number => Date.now() / 1000 + ("skew" in this.source ? (this.source as LiveSource).skew() : 0);

  again = (): void => void this.fetch();

  private async fetch(): Promise<void> {
    clearTimeout(this.timer);
    this.timer = undefined;
    if (this.asking) return;
    this.asking = true;
    const began = performance.now();
    try {
      const cells = new Cells(decode(await this.ask(this.source.id)).map((cell) => this.waits(cell)));
      // what came meanwhile is newer than the answer
      for (const view of this.source.nodes().values()) this.take(cells, view);
      this.tell({ cells, error: null });
    } catch (error) {
      this.tell({
        cells: this.state.cells,
        error: error instanceof Error ? error : new Error(String(error)),
      });
    } finally {
      this.asking = false;
      this.took_ms = performance.now() - began;
    }
  }

  private changed(paths: ReadonlySet<string> | null): void {
    const { cells } = this.state;
    if (cells === null) return;
    let unsure = paths === null;
    for (const path of paths ?? this.source.nodes().keys()) {
      const view = this.source.node(path);
      if (view !== undefined) unsure = this.take(cells, view) || unsure;
    }
    if (unsure) this.later();
    this.tell({ cells, error: null });
  }

  private moved(): void {
    const status = this.source.execution()?.status ?? "";
    if (status === this.status) return;
    const first = this.status === "";
    this.status = status;
    if (!first) this.later();
  }

  /** Put a view among the cells; whether there is more to know than it tells. */
  private take(cells: Cells, view: NodeView): boolean {
    const cell = ofView(view);
    if (cell === null) return false;
    const before = cells.of(view.id).at(-1);
    const skips =
      before === undefined
        ? cell.attempt > 1 || cell.iteration !== "1"
        : before.iteration === cell.iteration
          ? cell.attempt > before.attempt
          : true;
    const same = before?.iteration === cell.iteration && before.attempt === cell.attempt;
    if (!(same && ENDED.has(before.status) && !ENDED.has(cell.status))) cells.put(this.waits(cell));
    // of what is inside a group that is closed nothing is told here
    return skips || (view.group != null && !ENDED.has(view.status));
  }

  private waits<T extends { path: string; waits: boolean | null }>(cell: T): T {
    if (cell.waits === null && WAITING.has(this.source.node(cell.path)?.type ?? "")) cell.waits = true;
    return cell;
  }

  private later(): void {
    this.timer ??= setTimeout(() => void this.fetch(), Math.max(AGAIN_MS, this.took_ms / SHARE));
  }

  private tell(state: FeedState): void {
    this.state = { ...state };
    for (const listener of [...this.listeners]) listener();
  }
}

const FeedContext = createContext<Feed | null>(null);

/** Gives what is below it the cells of the execution that `live` watches. */
export function FeedProvider({ live, children }: { live: LiveSource | Source; children: ReactNode }) {
  const feed = useMemo(() => new Feed(live), [live]);
  return <FeedContext value={feed}>{children}</FeedContext>;
}

export function useFeed(): Feed {
  const feed = useContext(FeedContext);
  if (feed === null) throw new Error("no FeedProvider above");
  return feed;
}

const IDLE: FeedState = { cells: null, error: null };
const never = () => () => undefined;

/** All cells, fetched while somebody wants them. */
export function useCells(wanted = true): FeedState {
  const feed = useFeed();
  return useSyncExternalStore(wanted ? feed.subscribe : never, wanted ? feed.snapshot : () => IDLE);
}
