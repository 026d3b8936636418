// Paths of nodes: `parse[17]` is an item of the map `parse`, `sub/inner` a node in the sub-diagram `sub`.

/** The group that a path is directly in, or null at the root. */
export function parentOf(path: string): string | null {
  const end = path.endsWith("]") ? path.lastIndexOf("[") : path.lastIndexOf("/");
  return end > 0 ? path.slice(0, end) : null;
}

/** All groups around a path, the outermost first. */
export function groupsAround(path: string): string[] {
  const found: string[] = [];
  for (let at = parentOf(path); at !== null; at = parentOf(at)) found.unshift(at);
  return found;
}

/** What is left of a path within its group: `[17]`, `inner`. */
export function shortName(path: string): string {
  const parent = parentOf(path);
  return parent === null ? path : path.slice(parent.length).replace(/^\//, "");
}

const collator = new Intl.Collator("en", { numeric: true });

/** `parse[9]` before `parse[10]`. */
export const comparePaths = (a: string, b: string): number => collator.compare(a, b);
