import { StatusText } from "../common/status";
import { clock, plural, seconds } from "../common/format";
import type { Cells } from "./cells";
import type { Row } from "./rows";
import type { Kind, Segment } from "./segments";

const SAID: Record<Kind, string> = {
  queued: "queued for",
  running: "ran for",
  waiting: "waited for",
  pause: "paused before its retry for",
  mark: "at",
};
const WIDTH = 260;
const HEIGHT = 130;

/** What lies under the pointer. */
export function Tip({
  row,
  segment,
  x,
  y,
  width,
  height,
  cells,
  now,
  began,
}: {
  row: Row;
  segment: Segment | null;
  x: number;
  y: number;
  /** The size of what it lies in. */
  width: number;
  height: number;
  cells: Cells;
  /** Null: nothing goes on any more, and since when is not known. */
  now: number | null;
  began: number;
}) {
  const last = cells.of(row.path).at(-1);
  if (segment === null && row.inside.length === 0) return null;
  const until = segment?.open ? now : (segment?.to ?? null);
  // beside the pointer, where there is room
  const across = x + WIDTH + 24 > width ? { right: width - x + 12 } : { left: x + 14 };
  const along = y + HEIGHT > height ? { bottom: height - y + 8 } : { top: y + 16 };
  return (
    <div className="timeline-tip" style={{ ...across, ...along }}>
      <strong>{row.path}</strong>
      {last && <StatusText status={segment?.status ?? last.status} was={now === null} />}
      {segment && (
        <>
          <span>
            {segment.kind === "mark" || until === null ? "" : `${SAID[segment.kind]} ${seconds(until - segment.from)}`}
            {segment.open && until !== null ? " so far" : ""}
          </span>
          <span className="muted">
            {clock(segment.from, true)}, {seconds(Math.max(0, segment.from - began)) || "0 s"} after the start
          </span>
          {(segment.attempt > 1 || segment.iteration !== "1") && (
            <span className="muted">
              {segment.iteration !== "1" && `iteration ${segment.iteration} `}attempt {segment.attempt}
            </span>
          )}
        </>
      )}
      {row.inside.length > 0 && <span className="muted">{plural(row.inside.length, "node")} inside</span>}
    </div>
  );
}
