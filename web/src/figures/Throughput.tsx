import "uplot/dist/uPlot.min.css";
import "./figures.css";
import { useEffect, useMemo, useRef, useState } from "react";
import uPlot from "uplot";
import { useExecutionView } from "../api/source";
import { color, onTheme } from "../app/theme";
import { count, rate as perSecond, seconds } from "../common/format";
import { useCells, useFeed } from "../timeline/feed";
import { span } from "../timeline/range";
import { type Series, series } from "./series";

/** So many points at most, and so many nodes to each. */
const PARTS_MAX = 160;
const PARTS_MIN = 24;
const NODES_A_PART = 12;
const HIGH_PX = 176;
const AGAIN_MS = 1000;
/** Working it out takes this part of the time at most. */
const SHARE = 0.1;
/** What has fewer nodes is said by the timeline. */
const NODES_MIN = 8;

/** Ended nodes a second and nodes at work over the time of an execution. */
export function Throughput() {
  const made = useSeries();
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const data = useMemo((): uPlot.AlignedData | null => (made === null ? null : [made.at, made.rate, made.running]), [made]);
  const latest = useRef(data);
  latest.current = data;
  const after = useRef((place: number) => place);
  after.current = made?.after ?? after.current;
  const there = data !== null;

  useEffect(() => {
    const box = place.current;
    if (!there || box === null) return;
    const draw = () => {
      plot.current?.destroy();
      plot.current = new uPlot(options(box.clientWidth, (place) => after.current(place)), latest.current ?? [[], [], []], box);
    };
    draw();
    const end = onTheme(draw);
    const observer = new ResizeObserver(() => plot.current?.setSize({ width: box.clientWidth, height: HIGH_PX }));
    observer.observe(box);
    return () => {
      end();
      observer.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [there]);
  useEffect(() => {
    if (data !== null) plot.current?.setData(data);
  }, [data]);

  if (made === null) return null;
  const most = made.running.reduce((a, b) => Math.max(a, b), 0);
  return (
    <section className="throughput">
      <h2>Over time</h2>
      <div ref={place} role="img" aria-label={`Ended nodes a second, and nodes at work: ${count(Math.round(most))} at most`} />
    </section>
  );
}

interface Made extends Series {
  /** Seconds after the beginning, of a place on the scale. */
  after: (place: number) => number;
}

function useSeries(): Made | null {
  const { cells } = useCells();
  const feed = useFeed();
  const execution = useExecutionView();
  const moves = execution?.status === "running";
  const [turn, setTurn] = useState(0);
  const took = useRef(0);
  // biome-ignore lint/correctness/useExhaustiveDependencies: `turn` sets the next one
  useEffect(() => {
    if (!moves) return;
    const timer = setTimeout(() => setTurn((n) => n + 1), Math.max(AGAIN_MS, took.current / SHARE));
    return () => clearTimeout(timer);
  }, [moves, turn]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: `turn` says when
  return useMemo(() => {
    if (cells === null || cells.size < NODES_MIN) return null;
    const clock = performance.now();
    const { folding, began } = span(cells, execution, feed.now());
    const made = series(cells, folding, Math.min(PARTS_MAX, Math.max(PARTS_MIN, Math.round(cells.size / NODES_A_PART))));
    took.current = performance.now() - clock;
    return { ...made, after: (place: number) => folding.toTime(place) - began };
  }, [cells, turn, execution?.status, feed]);
}

function options(width: number, after: (place: number) => number): uPlot.Options {
  const [text, line, ended, running] = [color("muted"), color("line"), color("completed"), color("running")];
  const font = `11px ${getComputedStyle(document.body).fontFamily}`;
  const axis = { stroke: text, font, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1, size: 4 } };
  return {
    width,
    height: HIGH_PX,
    scales: { x: { time: false }, rate: { range: (_, __, most) => [0, Math.max(most * 1.1, 1)] }, running: { range: (_, __, most) => [0, Math.max(most * 1.1, 1)] } },
    cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false } },
    axes: [
      { ...axis, size: 26, values: (_, splits) => splits.map((at) => (at === 0 ? "0" : seconds(after(at)))) },
      { ...axis, scale: "rate", size: 52, values: (_, splits) => splits.map((n) => count(n)) },
      { ...axis, scale: "running", side: 1, size: 52, grid: { show: false }, values: (_, splits) => splits.map((n) => count(n)) },
    ],
    series: [
      { label: "after", value: (_, at) => (at == null ? "–" : seconds(after(at))) },
      { label: "ended a second", scale: "rate", stroke: ended, width: 1.5, fill: faded(ended), points: { show: false }, value: (_, n) => (n == null ? "–" : perSecond(n)) },
      { label: "at work", scale: "running", stroke: running, width: 1.5, dash: [5, 3], points: { show: false }, value: (_, n) => (n == null ? "–" : n.toFixed(n < 10 ? 1 : 0)) },
    ],
  };
}

function faded(ink: string): string {
  return `color-mix(in oklab, ${ink} 14%, transparent)`;
}
