import { useRef } from "react";
import { useKeys } from "../app/keys";
import { route, setQuery } from "../app/route";

/** The path before or after one in a list; from nowhere the first or the last. */
export function stepped(paths: readonly string[], from: string | null, by: 1 | -1): string | null {
  if (paths.length === 0) return null;
  const at = from === null ? -1 : paths.indexOf(from);
  if (at < 0) return (by > 0 ? paths[0] : paths.at(-1)) ?? null;
  return paths[Math.min(paths.length - 1, Math.max(0, at + by))] ?? null;
}

/** The next one that is so, after the place of `from`, round and round. */
export function nextOf(
  paths: readonly string[],
  from: string | null,
  so: (path: string) => boolean,
): string | null {
  const at = from === null ? -1 : paths.indexOf(from);
  for (let n = 1; n <= paths.length; n++) {
    const path = paths[(at + n) % paths.length] as string;
    if (so(path)) return path;
  }
  return null;
}

export const select = (path: string | null, replace = true): void => {
  if (path !== null) setQuery({ node: path, iteration: null, attempt: null }, replace);
};

/** `j` and `k` step through these paths, `e` goes to the next that failed. */
export function useStepKeys(paths: readonly string[], failed: (path: string) => boolean): void {
  const latest = useRef({ paths, failed });
  latest.current = { paths, failed };
  const now = () => route().query.node ?? null;
  useKeys({
    j: ["next node", () => select(stepped(latest.current.paths, now(), 1))],
    k: ["node before", () => select(stepped(latest.current.paths, now(), -1))],
    e: ["next error", () => select(nextOf(latest.current.paths, now(), latest.current.failed))],
  });
}
