// What a page from a file has instead of a server: `treadle export --html` writes an execution's answers into it.

import { local } from "../common/format";
import { parse } from "./exact";
import type { Json } from "./types";

export interface Recorded {
  id: string;
  /** When it was written, in seconds since 1970. */
  at: number;
  /** The live socket's snapshot, all groups open. */
  snapshot: Json;
  /** By their addresses below `/api/`. */
  answers: Record<string, Json>;
  /** Of each node its attempts, the oldest first. */
  nodes: Record<string, Json[]>;
  logs: { id: number; node: string; attempt: number }[];
}

const GONE = {
  status: 404,
  type: "NotRecorded",
  message: "This is not in the file.",
  hint: "Export it again, or look at it with `treadle serve`.",
};

let known: Recorded | null | undefined;

/** What the page's file holds, null where there is a server. */
export function recorded(): Recorded | null {
  if (known === undefined) {
    const text = document.getElementById("treadle-recorded")?.textContent;
    known = text ? parse<Recorded>(text) : null;
    if (known !== null) {
      document.documentElement.dataset.recorded = local(known.at);
      if (location.hash.replace(/^#?\/?/, "") === "")
        location.hash = `#/executions/${encodeURIComponent(known.id)}`;
    }
  }
  return known;
}

export interface Answer {
  answer?: Json;
  error?: typeof GONE;
}

/** The answer to a GET by its address below `/api/`, e.g. `executions/x/node?path=a`. */
export function answerOf({ answers, nodes, logs, id }: Recorded, method: string, address: string): Answer {
  const [path = "", search = ""] = address.split("?");
  const query = new URLSearchParams(search);
  const of = `executions/${encodeURIComponent(id)}`;
  if (method !== "GET")
    return { error: { ...GONE, message: "This is a recording: nothing can be done to it." } };
  if (path === `${of}/node`) {
    const mine = nodes[query.get("path") ?? ""] ?? [];
    const fits = (one: Json) =>
      (["iteration", "attempt"] as const).every(
        (key) => !query.has(key) || String(one[key]) === query.get(key),
      );
    const found = mine.findLast(fits);
    return found === undefined ? { error: GONE } : { answer: found };
  }
  if (path === `${of}/logs`) {
    const node = query.get("node");
    const [after, attempt] = [Number(query.get("after") ?? 0), query.get("attempt")];
    const within = (path: string) =>
      node === null || path === node || path.startsWith(`${node}/`) || path.startsWith(`${node}[`);
    const items = logs
      .filter(
        (line) =>
          line.id > after && within(line.node) && (attempt === null || String(line.attempt) === attempt),
      )
      .slice(0, Number(query.get("limit") ?? 1000));
    return { answer: { items, last: items.at(-1)?.id ?? after } };
  }
  const found = answers[path];
  return found === undefined ? { error: GONE } : { answer: found };
}

if (typeof document !== "undefined") recorded(); // before the first route is read
