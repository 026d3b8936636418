// The groups that are open, as the URL holds them: their paths by commas, or `*` for all.

import { useCallback, useMemo } from "react";
import { setQuery, useQuery } from "../app/route";
import { groupsAround } from "../live/paths";

export const ALL = "*";

export function parseOpen(text: string | null): ReadonlySet<string> {
  const named = new Set((text ?? "").split(",").filter(Boolean));
  return named.has(ALL) ? new Everything() : named;
}

/** Contains every path. */
class Everything extends Set<string> {
  override has(): boolean {
    return true;
  }
}

/** The text of the set with one group opened or closed. `groups`: all that there are, in case all were open. */
export function toggled(text: string | null, path: string, groups: Iterable<string>): string | null {
  const open = parseOpen(text);
  if (open instanceof Everything) return [...groups].filter((group) => group !== path).join(",") || null;
  const next = new Set(open);
  if (!next.delete(path)) {
    // it shows only while those around it are open
    for (const group of [...groupsAround(path), path]) next.add(group);
  }
  return [...next].join(",") || null;
}

export function useOpenGroups(groups: () => Iterable<string> = () => []) {
  const text = useQuery("open");
  const open = useMemo(() => parseOpen(text), [text]);
  const toggle = useCallback(
    (path: string) => setQuery({ open: toggled(text, path, groups()) }, true),
    [text, groups],
  );
  return { open, toggle };
}
