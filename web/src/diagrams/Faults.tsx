import type { Fault } from "../api/types";
import { setQuery } from "../app/route";
import { plural } from "../common/format";
import { StatusIcon } from "../common/status";

const SHOWN = 200;

/** What `treadle check` says, a line each. */
export function Faults({ faults }: { faults: readonly Fault[] }) {
  if (faults.length === 0) {
    return <p className="checked"><StatusIcon status="completed" /> checked, no fault</p>;
  }
  const errors = faults.filter((each) => each.severity === "error").length;
  const rest = faults.length - errors;
  return (
    <details className="faults" open={errors > 0}>
      <summary>
        <StatusIcon status={errors > 0 ? "failed" : "stale"} />{" "}
        {[errors > 0 && plural(errors, "error"), rest > 0 && plural(rest, "warning")].filter(Boolean).join(", ")}
      </summary>
      <ul>
        {faults.slice(0, SHOWN).map((each, k) => (
          <li key={k} className={each.severity}>
            <StatusIcon status={each.severity === "error" ? "failed" : "stale"} size={12} />
            <span className="mono muted">{[each.file?.split("/").at(-1), each.line].filter((part) => part != null).join(":")}</span>
            <span>
              {each.node && <button type="button" className="link mono" onClick={() => setQuery({ node: each.node })}>{each.node}</button>}{" "}
              {each.message}
              {each.hint && <span className="muted"> {each.hint}</span>}
            </span>
          </li>
        ))}
        {faults.length > SHOWN && <li className="muted">and {plural(faults.length - SHOWN, "more", "more")}; <code>treadle check</code> prints all</li>}
      </ul>
    </details>
  );
}
