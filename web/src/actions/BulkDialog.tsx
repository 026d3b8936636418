import { useState } from "react";
import { ApiError, del, post, seg } from "../api/client";
import type { Summary } from "../api/types";
import { say } from "../app/notes";
import { plural } from "../common/format";
import { StatusText } from "../common/status";
import { Dialog } from "../common/ui";

const CANCELLED_AT_ONCE = 4; // deleting is one after the other: a store is pruned by one at a time
const ENDED = new Set(["completed", "failed", "cancelled"]);
const LISTED = 12;

/** Cancels or deletes many, after it said which; each that could not be is named with its reason. */
export function BulkDialog({ act, executions, close, done }: {
  act: "cancel" | "delete";
  executions: readonly Summary[];
  close: () => void;
  done: () => void;
}) {
  const ended = (item: Summary) => ENDED.has(item.status) && !item.stale;
  const fit = executions.filter((item) => (act === "cancel" ? !ended(item) : item.status !== "running" || item.stale));
  const unfit = executions.length - fit.length;
  const [busy, setBusy] = useState(false);
  const [wrong, setWrong] = useState<readonly [Summary, string][]>([]);

  const go = async () => {
    setBusy(true);
    const failures: [Summary, string][] = [];
    const rest = [...fit];
    const work = async () => {
      for (let item = rest.shift(); item !== undefined; item = rest.shift()) {
        try {
          await (act === "cancel" ? post(`executions/${seg(item.id)}/cancel`) : del(`executions/${seg(item.id)}`));
        } catch (error) {
          failures.push([item, error instanceof ApiError ? error.message : String(error)]);
        }
      }
    };
    await Promise.all(Array.from({ length: act === "cancel" ? CANCELLED_AT_ONCE : 1 }, work));
    setBusy(false);
    setWrong(failures);
    const well = fit.length - failures.length;
    if (well > 0) say(`${plural(well, "execution")} ${act === "cancel" ? "cancelled" : "deleted"}`);
    done();
    if (failures.length === 0) close();
  };

  const word = act === "cancel" ? "Cancel" : "Delete";
  return (
    <Dialog title={`${word} ${plural(fit.length, "execution")}`} close={close}>
      {act === "delete"
        ? <p>What is recorded of them is deleted, with outputs, logs and blobs that nothing else uses. This can't be undone.</p>
        : <p>What runs is stopped; what is recorded stays, and they can be resumed.</p>}
      {unfit > 0 && (
        <p className="muted">
          {plural(unfit, "of them", "of them")} {act === "cancel" ? "ended already" : "still run: cancel first"}; left alone.
        </p>
      )}
      {wrong.length > 0 ? (
        <ul className="bulk-list">
          {wrong.map(([item, why]) => <li key={item.id}><strong>{item.name}</strong> <span className="mono">{item.id}</span>: {why}</li>)}
        </ul>
      ) : (
        <ul className="bulk-list">
          {fit.slice(0, LISTED).map((item) => (
            <li key={item.id}>
              <StatusText status={item.stale ? "stale" : item.status} /> <strong>{item.name}</strong>{" "}
              <span className="mono muted">{item.id}</span>
            </li>
          ))}
          {fit.length > LISTED && <li className="muted">and {fit.length - LISTED} more</li>}
        </ul>
      )}
      <div className="acts">
        <button type="button" onClick={close}>{wrong.length > 0 ? "Close" : "Back"}</button>
        {wrong.length === 0 && (
          <button type="button" className={act === "delete" ? "danger" : "primary"} disabled={busy || fit.length === 0} onClick={go}>
            {busy ? "…" : `${word} ${fit.length}`}
          </button>
        )}
      </div>
    </Dialog>
  );
}
