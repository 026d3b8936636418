import { useEffect, useRef, useState, useSyncExternalStore } from "react";
import { parse } from "./exact";
import { answerOf, recorded } from "./recorded";
import type { Json } from "./types";

/** What the server answered instead. `status` 0: it could not be reached. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly type: string,
    message: string,
    readonly hint: string | null = null,
  ) {
    super(message);
  }
}

export type Params = Record<string, string | number | boolean | null | undefined>;

/** Beside the page, wherever it lies. */
export function apiUrl(path: string, params: Params = {}): string {
  const url = new URL(`api/${path}`, document.baseURI.split("#")[0]);
  for (const [key, value] of Object.entries(params)) {
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(key, String(value));
  }
  return url.href;
}

export function socketUrl(path: string, params: Params = {}): string {
  return apiUrl(path, params).replace(/^http/, "ws");
}

/** `seg("a/b")` as one part of a path. */
export const seg = encodeURIComponent;

let refused = false;
const listeners = new Set<() => void>();

/** The server doesn't know us: the page says how to get in. */
export function refuse(): void {
  if (refused) return;
  refused = true;
  for (const listener of listeners) listener();
}

export function useRefused(): boolean {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => {
        listeners.delete(listener);
      };
    },
    () => refused,
  );
}

async function request<T>(method: string, url: string, body?: Json, signal?: AbortSignal): Promise<T> {
  const file = recorded();
  if (file !== null) {
    const { answer, error } = answerOf(file, method, url.slice(url.lastIndexOf("/api/") + "/api/".length));
    if (error) throw new ApiError(error.status, error.type, error.message, error.hint);
    return answer as T;
  }
  const headers: Record<string, string> = { Accept: "application/json" };
  if (method !== "GET") headers["X-Treadle"] = "1";
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer: Response;
  try {
    answer = await fetch(url, {
      method,
      headers,
      credentials: "same-origin",
      body: body === undefined ? null : JSON.stringify(body),
      signal: signal ?? null,
    });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(0, "Unreachable", "The server does not answer.", "Is `treadle serve` still running?");
  }
  if (answer.status === 204) return undefined as T;
  const text = await answer.text();
  let json: Json = null;
  try {
    json = text === "" ? null : parse(text);
  } catch {
    throw new ApiError(answer.status, "NotJson", `The server answered ${answer.status} with something other than JSON.`);
  }
  if (!answer.ok) {
    const told = json?.error ?? {};
    if (answer.status === 401) refuse();
    throw new ApiError(answer.status, told.type ?? "Error", told.message ?? answer.statusText, told.hint ?? null);
  }
  return json as T;
}

export function get<T>(path: string, params: Params = {}, signal?: AbortSignal): Promise<T> {
  return request<T>("GET", apiUrl(path, params), undefined, signal);
}

export function post<T>(path: string, body: Json = {}): Promise<T> {
  return request<T>("POST", apiUrl(path), body);
}

export function del<T>(path: string): Promise<T> {
  return request<T>("DELETE", apiUrl(path));
}

export interface Got<T> {
  data: T | null;
  error: ApiError | null;
  /** The first answer is still to come. */
  loading: boolean;
  again: () => void;
}

/**
 * What a GET answers; again every `every` seconds if told, and whenever `key` changes ("" and null: it isn't known yet). An
 * error keeps the last data. `path` null: nothing is asked.
 */
export function useGet<T>(path: string | null, params: Params = {}, every: number | null = null, key: unknown = ""): Got<T> {
  const [state, setState] = useState<{ of: string; data: T | null; error: ApiError | null }>(
    { of: "", data: null, error: null });
  const [turn, setTurn] = useState(0);
  const url = path === null ? "" : apiUrl(path, params);
  const alive = useRef(0);
  const pause = useRef(every);
  pause.current = every;
  const base = useRef<{ url: string; key: unknown }>({ url, key: "" });
  if (base.current.url !== url) base.current = { url, key: "" };
  const known = key !== "" && key !== null && key !== undefined;
  if (base.current.key === "" && known) base.current.key = key; // it did not change
  const changed = !known || key === base.current.key ? "" : key;
  // biome-ignore lint/correctness/useExhaustiveDependencies: `turn` and `changed` ask again
  useEffect(() => {
    if (url === "") return;
    const mine = ++alive.current;
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const ask = () => {
      request<T>("GET", url, undefined, abort.signal)
        .then((data) => setState({ of: url, data, error: null }))
        .catch((error: unknown) => {
          if (mine !== alive.current || abort.signal.aborted) return;
          const told = error instanceof ApiError ? error : new ApiError(0, "Error", String(error));
          setState((old) => ({ of: url, data: old.of === url ? old.data : null, error: told }));
        })
        .finally(() => {
          if (pause.current !== null && !abort.signal.aborted) timer = setTimeout(ask, pause.current * 1000);
        });
    };
    ask();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [url, turn, changed]);
  const mine = state.of === url;
  return {
    data: mine ? state.data : null,
    error: mine ? state.error : null,
    loading: url !== "" && !(mine && (state.data !== null || state.error !== null)),
    again: () => setTurn((n) => n + 1),
  };
}
