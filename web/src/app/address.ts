// What stands behind the `#`: pure, so that tests need no browser.

/** Where one is: the path's parts and the query, both behind the `#`, so that the page lies anywhere. */
export interface Route {
  path: readonly string[];
  query: Readonly<Record<string, string>>;
}

export function parse(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#?\/?/, "").split(/\?(.*)/s);
  return {
    path: path.split("/").filter(Boolean).map(decode),
    query: Object.fromEntries(new URLSearchParams(query)),
  };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export type Changes = Record<string, string | number | boolean | null | undefined>;

/** A link: its path's parts are escaped; what is null, false or "" in the query is left out. */
export function link(path: readonly string[], query: Changes = {}): string {
  const kept = Object.entries(query).filter(([, v]) => v !== null && v !== undefined && v !== "" && v !== false);
  const search = new URLSearchParams(kept.map(([k, v]) => [k, String(v)])).toString();
  return `#/${path.map(encodeURIComponent).join("/")}${search && `?${search}`}`;
}
