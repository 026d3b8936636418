// When the timeline is drawn again, and what moves it.

import { type RefObject, useCallback, useEffect, useRef } from "react";
import { onTheme } from "../app/theme";
import type { Cells } from "./cells";
import { AXIS, ROW } from "./paint";
import type { Row } from "./rows";

/** The span of the timeline is computed again this often at most. */
export const SPAN_MS = 250;
const RUNNING_MS = 100;

/** Draw before the next frame whenever something changed, and now and then while time goes on. */
export function useDrawing(
  draw: () => void,
  scroller: RefObject<HTMLDivElement | null>,
  cells: Cells,
  moves: boolean,
) {
  const latest = useRef(draw);
  latest.current = draw;
  const asked = useRef(0);
  const ask = useCallback(() => {
    cancelAnimationFrame(asked.current);
    asked.current = requestAnimationFrame(() => latest.current());
  }, []);
  const { version } = cells;
  // biome-ignore lint/correctness/useExhaustiveDependencies: each of them draws something else
  useEffect(() => {
    ask();
    // and once more when the span may be computed again
    const timer = setTimeout(ask, 2 * SPAN_MS);
    return () => clearTimeout(timer);
  }, [ask, draw, version, moves]);
  useEffect(() => onTheme(ask), [ask]);
  useEffect(() => {
    const box = scroller.current;
    if (box === null) return;
    const observer = new ResizeObserver(ask);
    observer.observe(box);
    return () => observer.disconnect();
  }, [scroller, ask]);
  useEffect(() => {
    if (!moves) return;
    const timer = setInterval(ask, RUNNING_MS);
    return () => clearInterval(timer);
  }, [moves, ask]);
}

/** Keep the last row that is at work in sight. */
export function useFollow(
  scroller: RefObject<HTMLDivElement | null>,
  follow: boolean,
  list: readonly Row[],
  cells: Cells,
) {
  const { version } = cells;
  // biome-ignore lint/correctness/useExhaustiveDependencies: `version` counts what changed in `cells`
  useEffect(() => {
    const box = scroller.current;
    if (!follow || box === null) return;
    const at = list.findLastIndex((row) => cells.of(row.path).at(-1)?.status === "running");
    if (at >= 0) box.scrollTop = (at + 2) * ROW + AXIS - box.clientHeight;
  }, [scroller, follow, list, cells, version]);
}
