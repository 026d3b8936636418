// The live socket of one execution: it comes back by itself, and goes on where it stopped.

import { get, type Params, seg, socketUrl } from "../api/client";
import { parse } from "../api/exact";
import type { Message } from "./messages";
import type { ExecutionStore } from "./store";

/** What is used of a WebSocket; tests bring their own. */
export interface Wire {
  onopen: (() => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number }) => void) | null;
  send(text: string): void;
  close(): void;
}

export interface Surroundings {
  wire: (path: string, params: Params) => Wire;
  later: (act: () => void, ms: number) => () => void;
  luck: () => number;
  /** Find out why there is no way to the server: a socket that never opened doesn't say. */
  why: () => void;
}

const FIRST_MS = 250;
const LONGEST_MS = 8000;
const POLICY = 1008;
const NO_SUCH = 4404;

/** How long to wait before the n-th try in a row (from 0): doubling, with up to half of it left to chance. */
export function pause(tries: number, luck: number): number {
  return Math.min(LONGEST_MS, FIRST_MS * 2 ** tries) * (0.5 + luck / 2);
}

export class LiveSocket {
  private wire: Wire | null = null;
  private tries = 0;
  private stopped = false;
  private forgetRetry: (() => void) | null = null;
  private wanted: ReadonlySet<string> = new Set();
  private up = false;

  constructor(
    private readonly store: ExecutionStore,
    private readonly options: { rate?: number } = {},
    private readonly around: Surroundings = browser,
  ) {}

  start(): void {
    this.stopped = false;
    this.connect();
  }

  stop(): void {
    this.stopped = true;
    this.up = false;
    this.forgetRetry?.();
    this.wire?.close();
    this.wire = null;
  }

  /** Try at once: the network is back, or somebody looks again. */
  hurry(): void {
    if (this.stopped || this.wire !== null) return;
    this.forgetRetry?.();
    this.connect();
  }

  /** Ask for the nodes directly in these groups (`*`: for all nodes), and no longer for those of others. */
  open(groups: readonly string[]): void {
    const before = this.wanted;
    this.wanted = new Set(groups);
    this.say(
      "close",
      [...before].filter((group) => !this.wanted.has(group)),
    );
    this.say(
      "open",
      [...this.wanted].filter((group) => !before.has(group)),
    );
    this.store.keep(this.wanted);
  }

  private say(type: "open" | "close", groups: readonly string[]): void {
    if (this.up && groups.length > 0) this.wire?.send(JSON.stringify({ type, groups }));
  }

  private connect(): void {
    this.forgetRetry = null;
    const wire = this.around.wire(`executions/${seg(this.store.id)}/live`, this.place());
    this.wire = wire;
    wire.onopen = () => {
      this.up = true;
      this.say("open", [...this.wanted]);
    };
    wire.onmessage = ({ data }) => {
      if (this.wire === wire) this.heard(parse<Message>(String(data)));
    };
    wire.onclose = ({ code }) => {
      if (this.wire !== wire) return;
      this.wire = null;
      if (!this.up && !this.stopped) this.around.why();
      this.up = false;
      if (!this.stopped) this.lost(code);
    };
  }

  private heard(message: Message): void {
    this.tries = 0;
    if (message.event_type === "error") {
      // the socket stays open, or is closed next with a code that says why
      if (message.gone) this.store.connected("gone");
      return;
    }
    this.store.connected("live");
    this.store.receive(message);
  }

  private place(): Params {
    const { stream, sequence } = this.store.place();
    return { ...(stream === null ? {} : { stream, since: sequence }), rate: this.options.rate };
  }

  private lost(code: number): void {
    if (code === POLICY || code === NO_SUCH) {
      this.store.connected(code === POLICY ? "refused" : "gone");
      return;
    }
    this.store.connected("reconnecting");
    this.forgetRetry = this.around.later(() => this.connect(), pause(this.tries++, this.around.luck()));
  }
}

const browser: Surroundings = {
  wire: (path, params) => new WebSocket(socketUrl(path, params)) as unknown as Wire,
  later: (act, ms) => {
    const timer = setTimeout(act, ms);
    return () => clearTimeout(timer);
  },
  luck: Math.random,
  why: () => void get("stats").catch(() => undefined), // whose token holds no longer is told by any request
};
