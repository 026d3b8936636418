import { useEffect, useRef, useState } from "react";
import { type ApiError, get, seg } from "../api/client";
import { useConnection, useOf } from "../api/source";
import { clock, plural } from "../common/format";
import { Failure } from "../common/ui";
import type { LogLine } from "./types";

const EVERY_MS = 1000;
const PAGE = 1000;
/** Lines that are kept; the oldest go. */
const KEPT = 5000;

interface Page {
  items: LogLine[];
  last: number;
}

/** What a node printed and logged, as it comes. */
export function Logs({
  id,
  path,
  attempt,
  alive,
}: {
  id: string;
  path: string;
  attempt: number | null;
  alive: boolean;
}) {
  const [lines, setLines] = useState<readonly LogLine[]>([]);
  const [dropped, setDropped] = useState(0);
  const [error, setError] = useState<ApiError | Error | null>(null);
  const [loaded, setLoaded] = useState(false);
  const after = useRef(0);
  const latest = useOf((source) => source.execution()?.last_log ?? null);
  const still = useConnection() === "still";

  // biome-ignore lint/correctness/useExhaustiveDependencies: whose log it is
  useEffect(() => {
    after.current = 0;
    setLines([]);
    setDropped(0);
    setLoaded(false);
  }, [id, path, attempt]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: `latest` and `alive` say that there may be more
  useEffect(() => {
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const read = async () => {
      try {
        let page: Page;
        do {
          page = await get<Page>(
            `executions/${seg(id)}/logs`,
            { node: path, attempt, after: after.current, limit: PAGE },
            abort.signal,
          );
          if (abort.signal.aborted) return;
          after.current = page.last;
          const { items } = page;
          if (items.length > 0) {
            setLines((old) => {
              const all = [...old, ...items];
              if (all.length > KEPT) setDropped((n) => n + all.length - KEPT);
              return all.slice(-KEPT);
            });
          }
        } while (page.items.length === PAGE);
        setError(null);
        setLoaded(true);
      } catch (wrong) {
        if (abort.signal.aborted) return;
        setError(wrong instanceof Error ? wrong : new Error(String(wrong)));
      }
      if (alive && !still) timer = setTimeout(() => void read(), EVERY_MS);
    };
    void read();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [id, path, attempt, alive, still, latest]);

  const box = useRef<HTMLDivElement>(null);
  const end = useRef(true);
  // biome-ignore lint/correctness/useExhaustiveDependencies: new lines move it
  useEffect(() => {
    if (end.current && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [lines]);

  if (error && lines.length === 0) return <Failure error={error} />;
  if (lines.length === 0) return <p className="muted">{loaded ? "It printed and logged nothing." : ""}</p>;
  const several = new Set(lines.map((line) => line.node)).size > 1;
  return (
    <>
      {dropped > 0 && (
        <p className="muted">
          {plural(dropped, "older line")} left out; <code>treadle logs</code> has them.
        </p>
      )}
      <div
        className="logs"
        ref={box}
        role="log"
        aria-label="Log"
        // biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls by keys
        tabIndex={0}
        onScroll={(event) => {
          const { scrollTop, clientHeight, scrollHeight } = event.currentTarget;
          end.current = scrollTop + clientHeight > scrollHeight - 20;
        }}
      >
        {lines.map((line) => (
          <div key={line.id} className={`log ${line.stream} ${(line.level ?? "").toLowerCase()}`}>
            <time title={new Date(line.at * 1000).toISOString()}>{clock(line.at)}</time>
            <span className="stream">{line.level?.toLowerCase() ?? line.stream}</span>
            <span className="said">
              {several && <span className="muted">{line.node} </span>}
              {line.text}
            </span>
          </div>
        ))}
      </div>
    </>
  );
}
