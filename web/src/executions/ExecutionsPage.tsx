import { type FormEvent, useEffect, useMemo, useRef, useState } from "react";
import { useMayWrite } from "../api/rights";
import type { Summary } from "../api/types";
import { BulkDialog } from "../actions/BulkDialog";
import { useCommands } from "../app/commands";
import { useKeys } from "../app/keys";
import { go, link, setQuery, useRoute } from "../app/route";
import { ago, count, local, plural, seconds, size, ticking } from "../common/format";
import { Progress, StatusText } from "../common/status";
import { Empty, Failure, Loading, useNow } from "../common/ui";
import { last } from "./last";
import { useExecutions } from "./list";
import "./executions.css";

const STATUSES = ["running", "suspended", "stale", "failed", "completed", "cancelled", "pending"] as const;
const SINCE: Record<string, number> = { "1 h": 3600, "24 h": 86_400, "7 d": 604_800, "30 d": 2_592_000 };

export function ExecutionsPage() {
  const { query } = useRoute();
  const since = SINCE[query.since ?? ""];
  const filter = useMemo(() => ({
    status: query.status, text: query.text, name: query.name,
    since: since === undefined ? undefined : Math.floor(Date.now() / 60_000) * 60 - since,
  }), [query.status, query.text, query.name, since]);
  useEffect(() => {
    const { at, ...filters } = query;
    last.filters = filters;
  }, [query]);
  const list = useExecutions(filter);
  const { items } = list;
  const mayWrite = useMayWrite();
  const [marked, setMarked] = useState<ReadonlySet<string>>(new Set());
  const [bulk, setBulk] = useState<"cancel" | "delete" | null>(null);
  const search = useRef<HTMLInputElement>(null);
  const at = items.findIndex((item) => item.id === query.at);
  const chosen = items.filter((item) => marked.has(item.id));

  const step = (by: number) => {
    const next = items[Math.max(0, Math.min(items.length - 1, at < 0 ? (by > 0 ? 0 : items.length - 1) : at + by))];
    if (next) setQuery({ at: next.id }, true);
  };
  const mark = (id: string) => setMarked((old) => {
    const now = new Set(old);
    if (!now.delete(id)) now.add(id);
    return now;
  });
  const open = (id: string | undefined) => id !== undefined && go(link(["executions", id]));
  useKeys({
    "/": ["search", () => search.current?.focus()],
    j: ["next row", () => step(1)],
    k: ["row before", () => step(-1)],
    ArrowDown: ["next row", () => step(1)],
    ArrowUp: ["row before", () => step(-1)],
    Enter: ["open it", () => open(items[at]?.id)],
    x: ["mark it", () => items[at] && mark(items[at].id)],
    d: ["compare two that are marked", () => compare()],
    Escape: ["back", () => (chosen.length > 0 ? setMarked(new Set()) : setQuery({ at: null }, true))],
  });
  const compare = () => {
    const [a, b] = chosen;
    if (a && b && chosen.length === 2) {
      const [older, newer] = (a.created_at ?? 0) <= (b.created_at ?? 0) ? [a, b] : [b, a];
      go(link(["diff", older.id, newer.id]));
    }
  };
  useCommands([
    { title: "Show only failed executions", act: () => setQuery({ status: "failed" }) },
    { title: "Show only running executions", act: () => setQuery({ status: "running" }) },
    { title: "Show all executions", act: () => go(link(["executions"])) },
  ]);
  const filtered = Boolean(query.status || query.text || query.name || query.since);

  return (
    <div className="executions">
      <h1 className="sr-only">Executions</h1>
      <Filters query={query} search={search} />
      {list.connection === "reconnecting" && !list.loading && (
        <div className="banner" role="status">Live updates are interrupted; the list is asked for again every 2 s.</div>
      )}
      {chosen.length > 0 && (
        <div className="bulk" role="toolbar" aria-label="Marked executions">
          <strong>{plural(chosen.length, "execution")}</strong>
          {mayWrite && <button type="button" onClick={() => setBulk("cancel")}>Cancel …</button>}
          {mayWrite && <button type="button" className="danger" onClick={() => setBulk("delete")}>Delete …</button>}
          <button type="button" disabled={chosen.length !== 2} onClick={compare} title="Mark two to compare them">
            Compare
          </button>
          <button type="button" className="plain" onClick={() => setMarked(new Set())}>Clear</button>
        </div>
      )}
      {list.error && <Failure error={list.error} again={list.again} />}
      {list.loading && <Loading what="Loading executions" />}
      {!list.loading && items.length === 0 && !list.error && (filtered
        ? (
          <Empty title="No execution is like that">
            <button type="button" onClick={() => go(link(["executions"]))}>Show all</button>
          </Empty>
        ) : (
          <Empty title="No executions yet">
            <p>
              <code>treadle run FILE --store URL</code> with the same store, or start one from <a href={link(["diagrams"])}>Diagrams</a>.
            </p>
          </Empty>
        ))}
      {items.length > 0 && (
        <Table items={items} at={at} marked={marked} mark={mark} setMarked={setMarked} open={open} />
      )}
      {list.next !== null && (
        <More more={list.more} shown={items.length} />
      )}
      {bulk && (
        <BulkDialog act={bulk} executions={chosen} close={() => setBulk(null)} done={() => {
          setMarked(new Set());
          list.again();
        }} />
      )}
    </div>
  );
}

/** Asked for when it comes into sight. */
function More({ more, shown }: { more: () => void; shown: number }) {
  const button = useRef<HTMLButtonElement>(null);
  const latest = useRef(more);
  latest.current = more;
  // biome-ignore lint/correctness/useExhaustiveDependencies: after each page it is looked at anew
  useEffect(() => {
    const element = button.current;
    if (element === null) return;
    const observer = new IntersectionObserver(([entry]) => entry?.isIntersecting && latest.current());
    observer.observe(element);
    return () => observer.disconnect();
  }, [shown]);
  return <button ref={button} type="button" className="more" onClick={more}>More</button>;
}

function Filters({ query, search }: {
  query: Readonly<Record<string, string>>;
  search: React.RefObject<HTMLInputElement | null>;
}) {
  const [text, setText] = useState(query.text ?? "");
  useEffect(() => setText(query.text ?? ""), [query.text]);
  useEffect(() => {
    if (text === (query.text ?? "")) return;
    const timer = setTimeout(() => setQuery({ text }, true), 200);
    return () => clearTimeout(timer);
  }, [text, query.text]);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    setQuery({ text }, true);
    search.current?.blur();
  };
  return (
    <form className="filters" role="search" onSubmit={submit}>
      <input
        ref={search}
        type="search"
        aria-label="Search by name or id"
        placeholder="Name or id   /"
        value={text}
        onChange={(event) => setText(event.target.value)}
      />
      <div className="chips" role="group" aria-label="Status">
        <button type="button" aria-pressed={!query.status} onClick={() => setQuery({ status: null })}>all</button>
        {STATUSES.map((status) => (
          <button
            key={status}
            type="button"
            aria-pressed={query.status === status}
            onClick={() => setQuery({ status: query.status === status ? null : status })}
          >
            <StatusText status={status} />
          </button>
        ))}
      </div>
      <select aria-label="Created within" value={query.since ?? ""} onChange={(event) => setQuery({ since: event.target.value })}>
        <option value="">any time</option>
        {Object.keys(SINCE).map((text) => <option key={text} value={text}>last {text}</option>)}
      </select>
    </form>
  );
}

function Table({ items, at, marked, mark, setMarked, open }: {
  items: readonly Summary[];
  at: number;
  marked: ReadonlySet<string>;
  mark: (id: string) => void;
  setMarked: (to: ReadonlySet<string>) => void;
  open: (id: string) => void;
}) {
  const sized = items.some((item) => item.size_bytes != null);
  const all = items.length > 0 && items.every((item) => marked.has(item.id));
  return (
    <table className="list">
      <thead>
        <tr>
          <th className="tick">
            <input
              type="checkbox"
              aria-label="Mark all"
              checked={all}
              onChange={() => setMarked(all ? new Set() : new Set(items.map((item) => item.id)))}
            />
          </th>
          <th className="c-status"><span>Status</span></th>
          <th>Name</th>
          <th className="c-id">Id</th>
          <th className="c-progress">Progress</th>
          <th className="num c-started">Started</th>
          <th className="num c-took">Took</th>
          {sized && <th className="num c-size">Size</th>}
        </tr>
      </thead>
      <tbody>
        {items.map((item, k) => (
          <Row key={item.id} item={item} here={k === at} marked={marked.has(item.id)} mark={mark} open={open} sized={sized} />
        ))}
      </tbody>
    </table>
  );
}

function Row({ item, here, marked, mark, open, sized }: {
  item: Summary;
  here: boolean;
  marked: boolean;
  mark: (id: string) => void;
  open: (id: string) => void;
  sized: boolean;
}) {
  const row = useRef<HTMLTableRowElement>(null);
  useEffect(() => {
    if (here) row.current?.scrollIntoView({ block: "nearest" });
  }, [here]);
  const began = item.started_at ?? item.created_at;
  return (
    <tr
      ref={row}
      aria-selected={here}
      className={marked ? "marked" : undefined}
      onClick={(event) => {
        if (!(event.target as HTMLElement).closest("a, input, button")) open(item.id);
      }}
    >
      <td className="tick">
        <input type="checkbox" aria-label={`Mark ${item.name}`} checked={marked} onChange={() => mark(item.id)} />
      </td>
      <td className="c-status"><StatusText status={item.stale ? "stale" : item.status} /></td>
      <td className="c-name">
        <a href={link(["executions", item.id])}>{item.name || "unnamed"}</a>
        <span className={`only-phone status-${item.stale ? "stale" : item.status}`}> {item.stale ? "stale" : item.status}</span>
        {(item.round ?? 1) > 1 && <span className="muted" title="How often it was run"> round {item.round}</span>}
        {item.error && <div className="why" title={item.error.message}>{item.error.node ? `${item.error.node}: ` : ""}{item.error.message}</div>}
      </td>
      <td className="c-id mono muted">{item.id}</td>
      <td className="c-progress"><Done item={item} /></td>
      <td className="num c-started" title={local(began)}><Ago instant={began} /></td>
      <td className="num c-took"><Took item={item} /></td>
      {sized && <td className="num c-size">{size(item.size_bytes)}</td>}
    </tr>
  );
}

function Done({ item }: { item: Summary }) {
  const total = item.nodes ?? 0;
  if (total === 0) return null;
  const failed = item.failed ?? 0;
  const ended = item.ended ?? (item.done ?? 0) + failed;
  return (
    <span className="done">
      <Progress counts={{ completed: Math.max(0, ended - failed), failed }} total={total} />
      <span>{count(ended)}<span className="muted">/{count(total)}</span></span>
    </span>
  );
}

function Ago({ instant }: { instant: number | null | undefined }) {
  const now = useNow(10);
  return ago(instant, now);
}

function Took({ item }: { item: Summary }) {
  const runs = item.status === "running" && !item.stale;
  const now = useNow(1, runs);
  if (item.started_at === null || item.started_at === undefined) return null;
  if (item.ended_at) return seconds(item.ended_at - item.started_at);
  return runs ? ticking(now - item.started_at) : <span className="muted">–</span>;
}
