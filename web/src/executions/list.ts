import { useEffect, useRef, useState } from "react";
import { ApiError, get, type Params, socketUrl } from "../api/client";
import type { Connection } from "../api/source";
import type { Page, Summary } from "../api/types";
import { merged, stands } from "./merged";

const PAGE = 100;
const POLL_S = 2;
const SOON_MS = 400;
/** After one stood still its size is asked for, which the socket doesn't tell. */
const SETTLED_MS = 2000;
/** The socket tells of so many, the newest, and of those that have not ended; the rest is asked for now and then. */
const LIVE_MAX = 200;
const OLD_MS = 15_000;

export interface List {
  items: readonly Summary[];
  next: string | null;
  error: ApiError | null;
  loading: boolean;
  connection: Connection;
  more: () => void;
  again: () => void;
}

interface Told {
  event_type: string;
  payload?: { executions?: Record<string, Partial<Summary> | null> };
}

/** A socket that is not open yet is closed when it is: browsers complain otherwise. */
function hangUp(socket: WebSocket | null): void {
  if (socket === null) return;
  socket.onmessage = null;
  if (socket.readyState === WebSocket.CONNECTING) socket.onopen = () => socket.close();
  else socket.close();
}

/** The executions under a filter: the first pages, then what the socket says; without one, asked again and again. */
export function useExecutions(filter: Params): List {
  const [items, setItems] = useState<readonly Summary[]>([]);
  const [next, setNext] = useState<string | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const [loading, setLoading] = useState(true);
  const [connection, setConnection] = useState<Connection>("connecting");
  const [pages, setPages] = useState(1);
  const [turn, setTurn] = useState(0);
  const key = JSON.stringify(filter);
  const filtering = useRef(false);
  filtering.current = filter.status !== undefined;

  // biome-ignore lint/correctness/useExhaustiveDependencies: `turn` asks again
  useEffect(() => {
    const abort = new AbortController();
    const ask = async () => {
      const found: Summary[] = [];
      let cursor: string | null = null;
      for (let page = 0; page < pages; page++) {
        const got: Page<Summary> = await get("executions", { ...JSON.parse(key), limit: PAGE, cursor }, abort.signal);
        found.push(...got.items);
        cursor = got.next ?? null;
        if (cursor === null) break;
      }
      setItems(found);
      setNext(cursor);
      setError(null);
      setLoading(false);
    };
    ask().catch((wrong: unknown) => {
      if (abort.signal.aborted) return;
      setError(wrong instanceof ApiError ? wrong : new ApiError(0, "Error", String(wrong)));
      setLoading(false);
    });
    return () => abort.abort();
  }, [key, pages, turn]);

  useEffect(() => {
    let closed = false;
    let socket: WebSocket | null = null;
    let wait = 500;
    const timers = new Set<ReturnType<typeof setTimeout>>();
    const later = (act: () => void, ms: number) => {
      const timer = setTimeout(() => {
        timers.delete(timer);
        act();
      }, ms);
      timers.add(timer);
    };
    const once = (ms: number) => {
      let due = false;
      return () => {
        if (due) return;
        due = true;
        later(() => {
          due = false;
          setTurn((n) => n + 1);
        }, ms);
      };
    };
    const soon = once(SOON_MS);
    const settled = once(SETTLED_MS);
    const connect = () => {
      if (closed) return;
      let open = false;
      socket = new WebSocket(socketUrl("live"));
      socket.onmessage = (message) => {
        const told: Told = JSON.parse(String(message.data));
        const executions = told.payload?.executions;
        if (!open) {
          open = true;
          wait = 500;
          setConnection("live");
          soon(); // what happened between the page and the socket
        }
        if (told.event_type !== "state_update" || executions === undefined) return;
        setItems((old) => {
          const { items: after, unknown } = merged(old, executions);
          const moved = filtering.current && Object.values(executions).some((fields) => fields?.status !== undefined);
          if (unknown || moved) soon();
          else if (stands(executions)) settled();
          return after;
        });
      };
      socket.onclose = (event) => {
        if (closed) return;
        setConnection(event.code === 1008 ? "refused" : "reconnecting");
        soon();
        wait = Math.min(wait * 2, 10_000);
        later(connect, wait);
      };
    };
    connect();
    const poll = setInterval(() => {
      if (socket?.readyState !== WebSocket.OPEN && !document.hidden) soon();
    }, POLL_S * 1000);
    return () => {
      closed = true;
      clearInterval(poll);
      for (const timer of timers) clearTimeout(timer);
      hangUp(socket);
    };
  }, []);

  const old = items.length > LIVE_MAX;
  useEffect(() => {
    if (!old) return;
    const timer = setInterval(() => document.hidden || setTurn((n) => n + 1), OLD_MS);
    return () => clearInterval(timer);
  }, [old]);

  return {
    items, next, error, loading, connection,
    more: () => setPages((n) => n + 1),
    again: () => setTurn((n) => n + 1),
  };
}
