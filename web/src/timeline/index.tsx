import "./timeline.css";
import { type PointerEvent, useCallback, useMemo, useRef, useState } from "react";
import { useExecutionView } from "../api/source";
import { setQuery, useQuery } from "../app/route";
import { Empty, Failure, Loading } from "../common/ui";
import { useLabels, usePendingViews } from "../live/drawn";
import { useOpenGroups } from "../table/open";
import { useReveal } from "../table/reveal";
import { useStepKeys } from "../table/steps";
import type { Cells } from "./cells";
import { useCells, useFeed } from "./feed";
import { SPAN_MS, useDrawing, useFollow } from "./moving";
import { AXIS, type Frame, paint, ROW, rowAt, toTime, toX } from "./paint";
import { parseZoom, type Span, span, zoomText } from "./range";
import { leaves, type Row, rows, tree } from "./rows";
import { type Segment, segments } from "./segments";
import { Tip } from "./tip";
import { useZoom } from "./zooming";

const NAMES = 220;
const NAMES_NARROW = 112;
const NARROW = 640;
const DRAG_PX = 4;
/** To compute the span takes this part of the time at most. */
const SHARE = 0.1;

/** Rows of nodes over time. Drag to zoom, double click to see all, click to select. */
export function Timeline() {
  const { cells, error } = useCells();
  const feed = useFeed();
  if (cells === null)
    return error ? <Failure error={error} again={feed.again} /> : <Loading what="Loading the timeline" />;
  if (cells.size === 0) return <Empty title="Nothing has happened yet">Rows appear when nodes begin.</Empty>;
  return <Chart cells={cells} />;
}

interface Hover {
  row: Row;
  segment: Segment | null;
  x: number;
  y: number;
}

function Chart({ cells }: { cells: Cells }) {
  const feed = useFeed();
  const execution = useExecutionView();
  const selected = useQuery("node");
  const atText = useQuery("at");
  const zoomAt = useQuery("zoom");
  const scroller = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const [hover, setHover] = useState<Hover | null>(null);
  const [brush, setBrush] = useState<readonly [number, number] | null>(null);
  const pressed = useRef<number | null>(null);
  const brushed = useRef<readonly [number, number] | null>(null); // the button may come up before it is drawn

  const pending = usePendingViews();
  const labels = useLabels();
  const { shape } = cells;
  // biome-ignore lint/correctness/useExhaustiveDependencies: `shape` counts the paths in `cells`
  const order = useMemo(() => tree(cells, pending.keys()), [cells, shape, pending]);
  const { open, toggle } = useOpenGroups(useCallback(() => order.inside.keys(), [order]));
  const list = useMemo(() => rows(order, open), [order, open]);
  const below = useMemo(() => {
    const known = new Map<string, readonly string[]>();
    return (path: string) => {
      const found = known.get(path) ?? leaves(order, path);
      known.set(path, found);
      return found;
    };
  }, [order]);
  useStepKeys(
    list.map((row) => row.path),
    (path) => cells.of(path).at(-1)?.status === "failed",
  );

  const spans = useRef<Made | null>(null);
  const frame = useCallback((): Frame | null => {
    const box = scroller.current;
    if (box === null) return null;
    const now = feed.now();
    const old = spans.current;
    const clock = performance.now();
    const view = feed.source.execution();
    let made = old;
    if (made === null || isDue(made, cells, view?.status ?? "", clock)) {
      const fresh = span(cells, view, now);
      made = {
        cells,
        version: cells.version,
        status: view?.status ?? "",
        at: clock,
        took: performance.now() - clock,
        span: fresh,
      };
      spans.current = made;
    }
    const { folding, began, moves } = made.span;
    const zoom = parseZoom(zoomAt);
    const end = moves ? Math.max(folding.to, now) : folding.to;
    const [u0, u1] = zoom
      ? [folding.toScale(began + zoom[0]), folding.toScale(began + zoom[1])]
      : [0, folding.toScale(end) * 1.01];
    return {
      width: box.clientWidth,
      height: box.clientHeight,
      scroll: box.scrollTop,
      names: box.clientWidth < NARROW ? NAMES_NARROW : NAMES,
      folding,
      u0,
      u1: Math.max(u1, u0 + 1e-6),
      now: moves ? now : folding.to, // nothing goes on any more
      began,
      at: atText === null ? null : Number(atText),
    };
  }, [cells, feed, zoomAt, atText]);

  const draw = useCallback(() => {
    const element = canvas.current;
    const context = element?.getContext("2d");
    const made = frame();
    if (!element || !context || made === null) return;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(made.width * ratio), Math.round(made.height * ratio)];
    if (element.width !== width || element.height !== height) {
      element.width = width;
      element.height = height;
      element.style.width = `${made.width}px`;
      element.style.height = `${made.height}px`;
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const font = `12px ${getComputedStyle(element).fontFamily}`;
    const over = hover === null ? null : list.indexOf(hover.row);
    paint(context, { frame: made, rows: list, cells, leaves: below, selected, hover: over, brush, font, labels });
  }, [frame, list, cells, below, labels, selected, hover, brush]);

  const running = execution?.status === "running";
  useDrawing(draw, scroller, cells, running || execution?.status === "suspended");
  const [follow, setFollow] = useState(false);
  useFollow(scroller, follow && running, list, cells);
  useReveal(
    scroller,
    selected,
    useMemo(() => list.findIndex((row) => row.path === selected), [list, selected]),
    ROW,
    AXIS,
  );

  const find = (
    event: PointerEvent | React.MouseEvent,
  ): { made: Frame; row: Row | null; x: number; y: number } | null => {
    const made = frame();
    if (made === null || canvas.current === null) return null;
    const box = canvas.current.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    return { made, row: y < AXIS ? null : (list[rowAt(made, y)] ?? null), x, y };
  };

  const moved = (event: PointerEvent) => {
    const found = find(event);
    if (found === null) return;
    const { made, row, x, y } = found;
    if (pressed.current !== null) {
      const to = Math.max(made.names, Math.min(x, made.width));
      if (brushed.current !== null || Math.abs(x - pressed.current) > DRAG_PX) setBrush((brushed.current = [pressed.current, to]));
      setHover(null);
    } else {
      setHover(row && { row, segment: x < made.names ? null : hit(cells, row, made, x), x, y });
    }
  };

  const down = (event: PointerEvent) => {
    const found = find(event);
    if (found === null || event.button !== 0 || event.pointerType === "touch" || found.x < found.made.names)
      return;
    pressed.current = found.x;
    event.currentTarget.setPointerCapture(event.pointerId);
  };

  const up = () => {
    const made = frame();
    const ends = brushed.current;
    if (ends !== null && made !== null) {
      const [a, b] = [toTime(made, Math.min(...ends)), toTime(made, Math.max(...ends))];
      setQuery({ zoom: zoomText(a - made.began, b - made.began) });
    }
    pressed.current = null;
    // the click that follows must still see that it was a drag
    setTimeout(() => setBrush((brushed.current = null)));
  };

  const click = (event: React.MouseEvent) => {
    const found = find(event);
    if (found === null || brushed.current !== null || found.row === null) return;
    const { row, made, x } = found;
    if (row.inside.length > 0 && x < 10 + row.depth * 14 + 14) {
      toggle(row.path);
      return;
    }
    const segment = x < made.names ? null : hit(cells, row, made, x);
    const last = cells.of(row.path).at(-1);
    const latest =
      segment === null || (segment.iteration === last?.iteration && segment.attempt === last.attempt);
    setQuery({
      node: row.path,
      iteration: latest ? null : segment.iteration,
      attempt: latest ? null : segment.attempt,
    });
  };

  useZoom(canvas, frame);

  return (
    <div className="timeline">
      {zoomAt !== null && (
        <button type="button" className="timeline-all" onClick={() => setQuery({ zoom: null })}>
          Whole time
        </button>
      )}
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls by keys */}
      <section className="timeline-scroll" ref={scroller} onScroll={draw} tabIndex={0} aria-label="Timeline">
        <div className="timeline-space" style={{ height: list.length * ROW + AXIS }}>
          <canvas
            ref={canvas}
            className={brush ? "brushing" : hover ? "over" : ""}
            aria-label={`Timeline of ${list.length} rows; the table tab says the same in words`}
            role="img"
            onPointerMove={moved}
            onPointerDown={down}
            onPointerUp={up}
            onPointerCancel={up}
            onPointerLeave={() => setHover(null)}
            onClick={click}
            onDoubleClick={(event) => {
              const found = find(event);
              if (found?.row && found.x < found.made.names && found.row.inside.length > 0)
                toggle(found.row.path);
              else setQuery({ zoom: null });
            }}
          />
        </div>
      </section>
      {hover && brush === null && (
        <Tip {...hover} {...boxOf(scroller.current)} cells={cells} now={execution?.status === "stale" ? null : feed.now()} began={spans.current?.span.began ?? 0} />
      )}
      <Legend follow={running ? follow : null} setFollow={setFollow} />
    </div>
  );
}

const boxOf = (box: HTMLElement | null) => ({
  width: box?.parentElement?.clientWidth ?? 0,
  height: box?.parentElement?.clientHeight ?? 0,
});

interface Made {
  cells: Cells;
  version: number;
  status: string;
  at: number;
  took: number;
  span: Span;
}

/** Whether the span is to be computed again: not at every change, for that takes a while with many cells. */
function isDue(made: Made, cells: Cells, status: string, clock: number): boolean {
  if (made.cells !== cells || made.status !== status) return true;
  return (
    (made.version !== cells.version || made.span.moves) &&
    clock - made.at > Math.max(SPAN_MS, made.took / SHARE)
  );
}

/** What lies at a place of a row; of several the shortest, since it is the hardest to hit. */
function hit(cells: Cells, row: Row, frame: Frame, x: number): Segment | null {
  const found = segments(cells.of(row.path), frame.now)
    .filter((one) => toX(frame, one.from) - 3 <= x && x <= toX(frame, one.to) + 3)
    .sort((a, b) => a.to - a.from - (b.to - b.from));
  return found[0] ?? null;
}

/** The kinds of bars by their classes, and what they mean. */
const BARS = [
  ["queued", "queued"],
  ["running", "running"],
  ["completed", "completed"],
  ["failed", "failed"],
  ["waiting", "waiting"],
  ["pause", "before a retry"],
] as const;

function Legend({ follow, setFollow }: { follow: boolean | null; setFollow: (on: boolean) => void }) {
  return (
    <ul className="timeline-legend" aria-label="What the bars mean">
      {BARS.map(([bar, meaning]) => (
        <li key={bar}>
          <i className={`bar-${bar}`} />
          {meaning}
        </li>
      ))}
      <li className="muted hint">drag to zoom, double click for all</li>
      {follow !== null && (
        <li>
          <button type="button" aria-pressed={follow} onClick={() => setFollow(!follow)}>
            Follow
          </button>
        </li>
      )}
    </ul>
  );
}
