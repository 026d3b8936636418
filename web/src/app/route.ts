import { useSyncExternalStore } from "react";
import { type Changes, link, parse, type Route } from "./address";

export { type Changes, link, parse, type Route } from "./address";

const listeners = new Set<() => void>();
let seen = "";
let current: Route = { path: [], query: {} };

function read(): Route {
  if (location.hash !== seen) {
    seen = location.hash;
    current = parse(seen);
  }
  return current;
}

function subscribe(listener: () => void): () => void {
  if (listeners.size === 0) {
    window.addEventListener("hashchange", tell);
    window.addEventListener("popstate", tell);
  }
  listeners.add(listener);
  return () => {
    listeners.delete(listener);
    if (listeners.size === 0) {
      window.removeEventListener("hashchange", tell);
      window.removeEventListener("popstate", tell);
    }
  };
}

function tell() {
  for (const listener of listeners) listener();
}

export function useRoute(): Route {
  return useSyncExternalStore(subscribe, read);
}

/** One value of the query; a component that reads one doesn't render for the others. */
export function useQuery(key: string): string | null {
  return useSyncExternalStore(subscribe, () => read().query[key] ?? null);
}

export function route(): Route {
  return read();
}

/** `replace`: without an entry in the browser's history. */
export function go(to: string, replace = false): void {
  if (to === location.hash) return;
  history[replace ? "replaceState" : "pushState"](null, "", to);
  tell();
}

/** Changes the query's values; null removes one. */
export function setQuery(changes: Changes, replace = false): void {
  const { path, query } = read();
  go(link(path, { ...query, ...changes }), replace);
}
