import { useMemo, useState } from "react";
import type { Json } from "../api/types";
import { plural } from "../common/format";
import { Copy } from "../common/ui";
import { Tree } from "../values/Tree";
import { firstFrame, type Frame, parseTraceback } from "./traceback";

/** An error: what it says, where in the user's own code, and the rest when asked for. */
export function ErrorPanel({
  type,
  message,
  traceback,
  details,
}: {
  type: string;
  message: string;
  traceback?: string | null;
  details?: Json;
}) {
  const [whole, setWhole] = useState(false);
  const traces = useMemo(() => parseTraceback(traceback ?? ""), [traceback]);
  const first = firstFrame(traces);
  const count = traces.reduce((sum, trace) => sum + trace.frames.length, 0);
  return (
    <div className="error-panel">
      <p className="says">
        <strong>{type}</strong>
        {message && `: ${message}`}
      </p>
      {first && <FrameView frame={first} />}
      {count > 1 && (
        <button type="button" className="link" aria-expanded={whole} onClick={() => setWhole(!whole)}>
          {whole ? "Less" : `Whole traceback, ${plural(count, "frame")}`}
        </button>
      )}
      {whole &&
        traces.map((trace, n) => (
          <div key={n}>
            {trace.after && <p className="muted">{trace.after}</p>}
            {trace.frames.map((frame, m) => (
              <FrameView key={m} frame={frame} />
            ))}
            <p className="mono">{trace.error}</p>
          </div>
        ))}
      {details != null && <Tree value={details} />}
      {traceback && (
        <Copy text={traceback}>
          <span className="copy-word">Copy the traceback</span>
        </Copy>
      )}
    </div>
  );
}

function FrameView({ frame }: { frame: Frame }) {
  return (
    <div className={frame.own ? "frame own" : "frame"}>
      <p>
        <Copy text={`${frame.file}:${frame.line}`}>
          {frame.file}:{frame.line}
        </Copy>{" "}
        <span className="muted">in {frame.name}</span>
      </p>
      {frame.code.length > 0 && <pre>{frame.code.join("\n")}</pre>}
    </div>
  );
}
