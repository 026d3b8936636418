import "./travel.css";
import { type ReactNode, useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "react";
import { recorded } from "../api/recorded";
import { type LiveSource, SourceProvider, useExecutionView } from "../api/source";
import type { Drawn } from "../api/types";
import { useKeys } from "../app/keys";
import { setQuery, useQuery } from "../app/route";
import { onTheme } from "../app/theme";
import { clock, seconds } from "../common/format";
import { CompareKey } from "../diff/Pick";
import { InstantProvider } from "../live/clock";
import { DrawnProvider } from "../live/drawn";
import type { Cells } from "../timeline/cells";
import { FeedProvider, useCells, useFeed } from "../timeline/feed";
import { type Span, span } from "../timeline/range";
import { stateAt, stepFrom, steps } from "./moment";
import { MomentSource } from "./source";
import { sketch } from "./sketch";

/** The whole takes this long to play, in seconds. */
const PLAY_S = 20;
/** The URL is written so often at most: browsers refuse more than 200 changes in 10 s. */
const WRITE_MS = 120;

/** Puts a slider below what is inside it, and around that a source that shows the instant `at` of the URL. */
export function TravelBar({
  live,
  drawn = null,
  children,
}: {
  live: LiveSource;
  drawn?: Drawn | null;
  children: ReactNode;
}) {
  return (
    <DrawnProvider value={drawn}>
      <FeedProvider live={live}>
        <Travel live={live}>{children}</Travel>
      </FeedProvider>
    </DrawnProvider>
  );
}

function parseAt(text: string | null): number | null {
  const at = text === null || text === "" ? Number.NaN : Number(text);
  return Number.isFinite(at) ? at : null;
}

function Travel({ live, children }: { live: LiveSource; children: ReactNode }) {
  const execution = useExecutionView();
  const inUrlText = useQuery("at");
  const inUrl = parseAt(inUrlText);
  const [dragged, setDragged] = useState<number | null>(null);
  const [wanted, setWanted] = useState(false);
  const at = dragged ?? inUrl;
  const feed = useFeed();
  const { cells } = useCells(wanted || at !== null);
  const range = useSpan(cells, execution);
  const moment = useMemo(() => new MomentSource(live), [live]);
  const shown = at !== null && cells !== null;

  const show = () => {
    if (at !== null && cells !== null) {
      moment.show(stateAt(cells, at, { nodes: live.nodes(), execution: live.execution() }), cells);
    }
  };
  // at first before anybody looks at it, later when all that look can be told
  if (shown && moment.at === null) show();
  // biome-ignore lint/correctness/useExhaustiveDependencies: `show` is made of these
  useLayoutEffect(() => {
    if (!shown) moment.at = null;
    else if (moment.at !== at || moment.of !== cells) show();
  }, [shown, at, cells, moment, live]);

  const write = useWriter(inUrlText, setDragged);
  // two presses within a frame are two steps
  const latest = useRef(at);
  latest.current = at;
  const go = useCallback(
    (to: number | null) => {
      latest.current = to;
      write(to);
    },
    [write],
  );

  const pending = useRef<1 | -1 | null>(null);
  const instants = useMemo(() => ({ of: cells, version: -1, list: [] as number[] }), [cells]);
  const where = useCallback(() => latest.current, []);
  const step = useCallback(
    (by: 1 | -1) => {
      if (cells === null) {
        pending.current = by;
        setWanted(true);
        return;
      }
      if (instants.version !== cells.version) {
        instants.list = steps(cells);
        instants.version = cells.version;
      }
      go(stepFrom(instants.list, latest.current, by));
    },
    [cells, instants, go],
  );
  useEffect(() => {
    if (cells === null || pending.current === null) return;
    const by = pending.current;
    pending.current = null;
    step(by);
  }, [cells, step]);
  const keys = useMemo(
    () => ({ "[": ["earlier", () => step(-1)], "]": ["later", () => step(1)] }) as const,
    [step],
  );
  useKeys(keys);

  return (
    <>
      <InstantProvider value={shown ? at : null}>
        <SourceProvider source={shown ? moment : live}>{children}</SourceProvider>
      </InstantProvider>
      {recorded() === null && <CompareKey id={live.id} name={execution?.name ?? ""} parent={execution?.parent ?? null} />}
      <Bar
        cells={cells}
        range={range}
        at={at}
        now={feed.now}
        go={go}
        where={where}
        step={step}
        want={() => setWanted(true)}
      />
    </>
  );
}

/** Computed again when cells came, twice a second at most. */
function useSpan(cells: Cells | null, execution: ReturnType<typeof useExecutionView>): Span | null {
  const feed = useFeed();
  const [turn, setTurn] = useState(0);
  const version = cells?.version ?? 0;
  useEffect(() => {
    if (version === 0) return;
    const timer = setTimeout(() => setTurn((n) => n + 1), 500);
    return () => clearTimeout(timer);
  }, [version]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: `turn` says when
  return useMemo(
    () => (cells === null ? null : span(cells, execution, feed.now())),
    [cells, turn, execution?.status, feed],
  );
}

/** Shows an instant at once, and writes it into the URL a little later; null, for now, at once. */
function useWriter(
  inUrl: string | null,
  setDragged: (at: number | null) => void,
): (to: number | null) => void {
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const last = useRef<number | null>(null);
  const mine = useRef<string | null>(null);
  useEffect(() => () => clearTimeout(timer.current), []);
  useEffect(() => {
    if (timer.current === undefined || inUrl === mine.current) return;
    clearTimeout(timer.current); // somebody went elsewhere, by a link say
    timer.current = undefined;
    setDragged(null);
  }, [inUrl, setDragged]);
  return useCallback(
    (to: number | null) => {
      last.current = to;
      setDragged(to);
      const write = () => {
        timer.current = undefined;
        mine.current = last.current?.toFixed(6) ?? null;
        setQuery({ at: mine.current }, true);
        setDragged(null);
      };
      if (to === null) {
        clearTimeout(timer.current);
        write();
      } else timer.current ??= setTimeout(write, WRITE_MS);
    },
    [setDragged],
  );
}

function Bar({
  cells,
  range,
  at,
  now,
  go,
  where,
  step,
  want,
}: {
  cells: Cells | null;
  range: Span | null;
  at: number | null;
  now: () => number;
  go: (to: number | null) => void;
  /** Where one is already, though it may not be drawn yet. */
  where: () => number | null;
  step: (by: 1 | -1) => void;
  want: () => void;
}) {
  const [plays, setPlays] = useState(false);
  const file = recorded();
  const length = range?.folding.length ?? 1;
  const place =
    at === null || range === null ? length : Math.min(length, Math.max(0, range.folding.toScale(at)));
  const latest = useRef(range);
  latest.current = range;

  const ready = range !== null;
  useEffect(() => {
    const first = latest.current?.folding;
    if (!plays || !ready || first === undefined) return;
    const begun = where();
    if (begun === null || first.toScale(begun) >= first.length) go(first.from);
    let asked = 0;
    const move = (before: number) => (clock: number) => {
      const [at, folding] = [where(), latest.current?.folding];
      const next =
        at === null || folding === undefined
          ? Infinity // somebody else went back to now
          : folding.toScale(at) + ((clock - before) / 1000) * (folding.length / PLAY_S);
      if (folding === undefined || next >= folding.length) {
        setPlays(false);
        go(null);
        return;
      }
      go(folding.toTime(next));
      asked = requestAnimationFrame(move(clock));
    };
    asked = requestAnimationFrame(move(performance.now()));
    return () => cancelAnimationFrame(asked);
  }, [plays, ready, go, where]);

  const play = () => {
    want();
    setPlays(!plays);
  };
  return (
    <section className={at === null ? "travel" : "travel there"} aria-label="Time">
      <button
        type="button"
        className="plain"
        title="Earlier ([)"
        aria-label="Earlier"
        onClick={() => step(-1)}
      >
        ‹
      </button>
      <button
        type="button"
        className="plain"
        title={plays ? "Stop" : "Play"}
        aria-label={plays ? "Stop" : "Play from the beginning"}
        onClick={play}
      >
        {plays ? "❚❚" : "▶"}
      </button>
      <button
        type="button"
        className="plain"
        title="Later (])"
        aria-label="Later"
        disabled={at === null}
        onClick={() => step(1)}
      >
        ›
      </button>
      <div className="travel-track" onPointerEnter={want}>
        <Sketch cells={cells} range={range} now={now} />
        <input
          type="range"
          min={0}
          max={length}
          step="any"
          value={place}
          aria-label="Instant"
          aria-valuetext={at === null ? "now" : clock(at, true)}
          onPointerDown={want}
          onFocus={want}
          onKeyDown={(event) => {
            // a native step of "any" has no sensible width
            const by = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key] as 1 | -1 | undefined;
            if (by === undefined) return;
            event.preventDefault();
            step(by);
          }}
          onChange={(event) => {
            if (range === null) return;
            const to = Number(event.target.value);
            setPlays(false);
            go(to >= length * 0.9999 ? null : range.folding.toTime(to));
          }}
        />
      </div>
      {at === null ? (
        <span className="travel-at muted">{file ? `as of ${clock(file.at)}` : "now"}</span>
      ) : (
        <>
          <span className="travel-at" title={new Date(at * 1000).toISOString()}>
            {clock(at, true)}{" "}
            <span className="muted">
              {range && `+${at - range.began < 5e-4 ? "0 s" : seconds(at - range.began)}`}
            </span>
          </span>
          <button
            type="button"
            onClick={() => {
              setPlays(false);
              go(null);
            }}
            title="Back to now"
          >
            Now
          </button>
        </>
      )}
    </section>
  );
}

/** How much was at work, behind the slider. */
function Sketch({ cells, range, now }: { cells: Cells | null; range: Span | null; now: () => number }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    const draw = () => {
      if (canvas.current && cells && range) sketch(canvas.current, cells, range, now());
    };
    draw();
    const ends = onTheme(draw);
    const observer = new ResizeObserver(draw);
    if (canvas.current) observer.observe(canvas.current);
    return () => {
      ends();
      observer.disconnect();
    };
  }, [cells, range, now]);
  return <canvas ref={canvas} />; // the slider says where one is
}
