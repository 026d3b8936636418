import { type RefObject, useEffect, useRef } from "react";

/** Scroll to the selected row, when the selection changes or comes into the list. `at`: its place, -1 for none. */
export function useReveal(
  box: RefObject<HTMLElement | null>,
  selected: string | null,
  at: number,
  row: number,
  head: number,
) {
  const latest = useRef(at);
  latest.current = at;
  const there = at >= 0;
  // biome-ignore lint/correctness/useExhaustiveDependencies: `selected` is what it is about
  useEffect(() => {
    const element = box.current;
    if (element === null || !there) return;
    const [top, bottom] = [latest.current * row, (latest.current + 1) * row + head];
    if (top < element.scrollTop) element.scrollTop = top;
    else if (bottom > element.scrollTop + element.clientHeight)
      element.scrollTop = bottom - element.clientHeight;
  }, [box, selected, there, row, head]);
}
