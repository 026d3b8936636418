// The paths of an update mask: `nodes.parse[17].status`, `context.artifacts`, `nodes["a.b"].port`.
// A node's path holds no dot unless it is quoted; its brackets belong to it.

/** The parts of a path. Throws where a quoted part never ends. */
export function parts(path: string): string[] {
  const found: string[] = [];
  let at = 0;
  while (at < path.length) {
    if (path.startsWith('["', at)) {
      const end = closing(path, at + 2);
      found.push(JSON.parse(path.slice(at + 1, end + 1)) as string);
      at = end + 2; // past `"]`
    } else {
      let end = at;
      while (end < path.length && path[end] !== "." && !path.startsWith('["', end)) end++;
      found.push(path.slice(at, end));
      at = end;
    }
    if (path[at] === ".") at++;
  }
  return found;
}

/** Where the quote ends that closes the string which begins before `at`. */
function closing(path: string, at: number): number {
  let end = at;
  while (end < path.length && path[end] !== '"') end += path[end] === "\\" ? 2 : 1;
  if (path[end + 1] !== "]") throw new Error(`the mask ${path} has a quote that does not end`);
  return end;
}
