import "./table.css";
import { memo, useCallback, useDeferredValue, useEffect, useMemo, useRef, useState } from "react";
import { type Source, useNode, useSource } from "../api/source";
import type { NodeStatus, NodeView } from "../api/types";
import { useKeys } from "../app/keys";
import { setQuery, useQuery } from "../app/route";
import { clock, count, plural, seconds } from "../common/format";
import { CountList, NODE_STATUSES, Progress, StatusIcon, StatusText } from "../common/status";
import { Empty } from "../common/ui";
import { useClock } from "../live/clock";
import { useLabels, usePendingViews, withPending } from "../live/drawn";
import { shortName } from "../live/paths";
import { arrange, type Column, duration, note, queued, type TableRow } from "./arrange";
import { ALL, useOpenGroups } from "./open";
import { useReveal } from "./reveal";
import { select, useStepKeys } from "./steps";
import { filter } from "./wanted";

const ROW = 28;
/** Rows beyond the edge that are there already when one scrolls. */
const BEYOND = 8;
const NAMES: readonly (readonly [Column, string, string?])[] = [
  ["status", "Status"],
  ["node", "Node"],
  ["type", "Type"],
  ["iteration", "Iter", "num"],
  ["attempt", "Try", "num"],
  ["started", "Started", "num"],
  ["queued", "Queued", "num"],
  ["duration", "Duration", "num"],
  ["note", ""],
];
const ARRANGE_MS = 200;
const MANY = 2000;

export function NodeTable() {
  const source = useSource();
  const sort = parseSort(useQuery("sort"));
  const text = useQuery("text") ?? "";
  const status = useQuery("status") ?? "";
  const selected = useQuery("node");
  const version = useSlowVersion(source);
  const pending = usePendingViews();
  const labels = useLabels();
  const clock = useClock(60);
  const now = useRef<number | null>(clock); // what is sorted by time is sorted again when something changes
  now.current = source.execution()?.status === "stale" ? null : clock;
  const groups = useCallback(() => {
    return [...source.nodes().values()].filter((view) => view.group != null).map((view) => view.id);
  }, [source]);
  const { open, toggle } = useOpenGroups(groups);
  const shownText = useDeferredValue(text);
  const statuses = useMemo(() => new Set(status.split(",").filter(Boolean)), [status]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: `version` counts what changed in `source`
  const { rows, hidden } = useMemo(
    () =>
      arrange(
        withPending(source.nodes(), pending),
        { sort: sort.column, descending: sort.descending, text: shownText, statuses, open, labels },
        now.current,
      ),
    [source, pending, version, sort.column, sort.descending, shownText, statuses, open, labels],
  );
  useStepKeys(
    rows.map((row) => row.path),
    (path) => source.node(path)?.status === "failed",
  );
  const flat = text !== "" || statuses.size > 0;
  return (
    <div className="node-table">
      <Bar
        text={text}
        statuses={statuses}
        source={source}
        pending={pending}
        version={version}
        shown={rows.length}
      />
      <Rows rows={rows} selected={selected} toggle={toggle} flat={flat} sort={sort} />
      {hidden > 0 && (
        <p className="table-more">
          {plural(hidden, "more such node")} in closed groups.{" "}
          <button type="button" className="link" onClick={() => setQuery({ open: ALL }, true)}>
            Open all groups
          </button>
        </p>
      )}
    </div>
  );
}

interface Sort {
  column: Column | null;
  descending: boolean;
}

function parseSort(text: string | null): Sort {
  const name = text?.replace(/^-/, "") ?? "";
  const known = NAMES.find(([column]) => column === name);
  return { column: known?.[0] ?? null, descending: text?.startsWith("-") ?? false };
}

/** Ascending, descending, as they came. */
function turn(sort: Sort, column: Column): string | null {
  if (sort.column !== column) return column;
  return sort.descending ? null : `-${column}`;
}

/** Raised when a node changed, some times a second at most: to sort ten thousand rows at every frame helps nobody. */
function useSlowVersion(source: Source): number {
  const [version, setVersion] = useState(0);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const raise = () => {
      timer = undefined;
      setVersion((n) => n + 1);
    };
    const end = source.onNodes(() => {
      timer ??= setTimeout(raise, source.nodes().size > MANY ? 3 * ARRANGE_MS : ARRANGE_MS);
    });
    raise();
    return () => {
      end();
      clearTimeout(timer);
    };
  }, [source]);
  return version;
}

function Bar({
  text,
  statuses,
  source,
  pending,
  version,
  shown,
}: {
  text: string;
  statuses: ReadonlySet<string>;
  source: Source;
  pending: ReadonlyMap<string, NodeView>;
  version: number;
  shown: number;
}) {
  const field = useRef<HTMLInputElement>(null);
  useKeys({ "/": ["filter the nodes", () => field.current?.focus()] });
  useEffect(() => {
    if (filter.wanted) field.current?.focus();
    filter.wanted = false;
  }, []);
  // biome-ignore lint/correctness/useExhaustiveDependencies: `version` counts what changed in `source`
  const counts = useMemo(() => {
    const found = new Map<NodeStatus, number>();
    for (const view of withPending(source.nodes(), pending).values())
      found.set(view.status, (found.get(view.status) ?? 0) + 1);
    return found;
  }, [source, pending, version]);
  const flip = (status: string) => {
    const next = new Set(statuses);
    if (!next.delete(status)) next.add(status);
    setQuery({ status: [...next].join(",") }, true);
  };
  return (
    <div className="table-bar">
      <input
        ref={field}
        type="search"
        placeholder="Filter nodes"
        aria-label="Filter nodes by path, type or error"
        value={text}
        onChange={(event) => setQuery({ text: event.target.value }, true)}
        onKeyDown={(event) => {
          if (event.key === "Enter") field.current?.blur();
        }}
      />
      {NODE_STATUSES.filter((status) => counts.has(status) || statuses.has(status)).map((status) => (
        <button
          key={status}
          type="button"
          className={`chip status-${status}`}
          aria-pressed={statuses.has(status)}
          onClick={() => flip(status)}
        >
          <StatusIcon status={status} size={12} />
          {status} <span className="muted">{count(counts.get(status) ?? 0)}</span>
        </button>
      ))}
      <span className="grow" />
      <span className="muted">{plural(shown, "row")}</span>
    </div>
  );
}

function Rows({
  rows,
  selected,
  toggle,
  flat,
  sort,
}: {
  rows: readonly TableRow[];
  selected: string | null;
  toggle: (path: string) => void;
  flat: boolean;
  sort: Sort;
}) {
  const source = useSource();
  const pending = usePendingViews();
  const labels = useLabels();
  const box = useRef<HTMLDivElement>(null);
  const [sight, setSight] = useState({ top: 0, height: 600 });
  useEffect(() => {
    const element = box.current;
    if (element === null) return;
    const look = () => setSight({ top: element.scrollTop, height: element.clientHeight });
    const observer = new ResizeObserver(look);
    observer.observe(element);
    element.addEventListener("scroll", look, { passive: true });
    return () => {
      observer.disconnect();
      element.removeEventListener("scroll", look);
    };
  }, []);
  useReveal(
    box,
    selected,
    useMemo(() => rows.findIndex((row) => row.path === selected), [rows, selected]),
    ROW,
    ROW,
  );
  const order = `${sort.column} ${sort.descending} ${flat}`;
  const before = useRef(order);
  useEffect(() => {
    // in another order one wants to see what comes first
    if (before.current !== order && box.current !== null) box.current.scrollTop = 0;
    before.current = order;
  }, [order]);
  const first = Math.max(0, Math.floor(sight.top / ROW) - BEYOND);
  const last = Math.min(rows.length, Math.ceil((sight.top + sight.height) / ROW) + BEYOND);
  const execution = source.execution();
  const clock = useClock(1, execution?.status === "running");
  const now = execution?.status === "stale" ? null : clock;
  return (
    <div className="table-box" ref={box} role="table" aria-label="Nodes" aria-rowcount={rows.length + 1}>
      <div className="table-row table-head" role="row" tabIndex={-1} aria-rowindex={1}>
        {NAMES.map(([column, name, kind]) => (
          <span
            key={column}
            className={`c-${column} ${kind ?? ""}`}
            role="columnheader"
            tabIndex={-1}
            aria-sort={sort.column !== column ? "none" : sort.descending ? "descending" : "ascending"}
          >
            {name && (
              <button type="button" onClick={() => setQuery({ sort: turn(sort, column) }, true)}>
                {name}
                {sort.column === column ? (sort.descending ? " ↓" : " ↑") : ""}
              </button>
            )}
          </span>
        ))}
      </div>
      <div className="table-space" style={{ height: rows.length * ROW }}>
        {rows.slice(first, last).map((row, n) => (
          <Row
            key={row.path}
            {...row}
            at={first + n}
            flat={flat}
            selected={row.path === selected}
            toggle={toggle}
            began={execution?.started_at ?? null}
            now={now}
            blank={pending.get(row.path)}
            label={labels(row.path)}
          />
        ))}
      </div>
      {rows.length === 0 && (
        <Empty title={flat ? "No node is so" : "There are no nodes yet"}>
          {flat && (
            <button type="button" onClick={() => setQuery({ text: null, status: null })}>
              Show all
            </button>
          )}
        </Empty>
      )}
    </div>
  );
}

/** What is less than half a millisecond is no wait. */
const worth = (n: number | null): string => (n === null || n < 0.0005 ? "" : seconds(n));
const told = (n: number | null): string => (n !== null && n < 5e-6 ? "0 s" : seconds(n));

const Row = memo(function Row({
  path,
  depth,
  group,
  open,
  at,
  flat,
  selected,
  toggle,
  began,
  now,
  blank,
  label,
}: TableRow & {
  label: string | null;
  /** What is known of it while nothing has happened to it. */
  blank: NodeView | undefined;
  at: number;
  flat: boolean;
  selected: boolean;
  toggle: (path: string) => void;
  began: number | null;
  /** Null: nothing goes on any more, and since when is not known. */
  now: number | null;
}) {
  const view = useNode(path) ?? blank;
  if (view === undefined) return null;
  const counts = view.group?.counts;
  const total = view.group?.total;
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: j and k do it
    <div
      className={selected ? "table-row selected" : "table-row"}
      role="row"
      tabIndex={-1}
      aria-rowindex={at + 2}
      aria-current={selected || undefined}
      style={{ transform: `translateY(${at * ROW}px)` }}
      onClick={() => select(path, false)}
    >
      <span className="c-status" role="cell">
        <StatusText status={view.status} was={now === null} />
      </span>
      <span className="c-node" role="cell" style={{ paddingLeft: depth * 16 }} title={path}>
        {group ? (
          <button
            type="button"
            className="fold"
            aria-expanded={open}
            aria-label={`${open ? "Close" : "Open"} ${path}`}
            onClick={(event) => {
              event.stopPropagation();
              toggle(path);
            }}
          >
            {open ? "▾" : "▸"}
          </button>
        ) : (
          <span className="fold" />
        )}
        <span className="cut-text">{label ?? (depth > 0 && !flat ? shortName(path) : path)}</span>
      </span>
      <span className="c-type muted cut-text" role="cell">
        {view.type}
      </span>
      <span className="c-iteration num" role="cell">
        {view.iteration === "1" ? "" : view.iteration}
      </span>
      <span className="c-attempt num" role="cell">
        {(view.attempt ?? 1) > 1 ? view.attempt : ""}
      </span>
      <span
        className="c-started num muted"
        role="cell"
        title={view.started_at ? clock(view.started_at, true) : undefined}
      >
        {view.started_at != null && began != null ? `+${worth(view.started_at - began) || "0 s"}` : ""}
      </span>
      <span className="c-queued num muted" role="cell">
        {worth(queued(view, now))}
      </span>
      <span className="c-duration num" role="cell">
        {told(duration(view, now))}
      </span>
      <span
        className={view.error ? "c-note cut-text status-failed" : "c-note cut-text muted"}
        role="cell"
        title={note(view)}
      >
        {counts && total ? (
          <>
            <Progress counts={counts} total={total} />
            <CountList counts={counts} />
          </>
        ) : (
          note(view)
        )}
      </span>
    </div>
  );
});
