import { seg, useGet } from "../api/client";
import { useConnection, useContextView, useExecutionId } from "../api/source";
import type { Json } from "../api/types";
import { clock } from "../common/format";
import { Empty, Failure, Loading } from "../common/ui";
import { ValueView } from "../values/ValueView";

interface Versions {
  artifacts: Record<string, Json>;
  variables: Record<string, Json>;
  plugins: Record<string, Json>;
  versions?: Record<string, { version: [number, number]; writer: string; at: number }>;
}

const PARTS = [
  ["artifacts", "Artifacts", "what nodes made for those who look"],
  ["variables", "Variables", "what nodes share"],
  ["plugins", "Plugins", "what plugins keep"],
] as const;

/** What the bodies of an execution share, and who wrote it. */
export function ContextPanel() {
  const id = useExecutionId();
  const live = useContextView();
  const still = useConnection() === "still";
  // who wrote what is told by the other address; asked again whenever something changed
  const whole = useGet<Versions>(`executions/${seg(id)}/context`, {}, null, live);
  const context = live ?? whole.data;
  if (context === null)
    return whole.error ? <Failure error={whole.error} again={whole.again} /> : <Loading />;
  const empty = PARTS.every(([part]) => Object.keys(context[part] ?? {}).length === 0);
  if (empty)
    return (
      <Empty title="The context is empty">
        <p>
          Bodies write to it with <code>context.artifacts</code> and <code>context.variables</code>.
        </p>
      </Empty>
    );
  return (
    <div className="context-panel">
      {still && <p className="muted">What it was at that instant is not recorded: this is what it is now.</p>}
      {PARTS.map(([part, name, says]) => {
        const values = Object.entries((context[part] ?? {}) as Record<string, Json>);
        if (values.length === 0) return null;
        return (
          <section key={part}>
            <h2>
              {name} <small className="muted">{says}</small>
            </h2>
            <dl>
              {values.map(([key, value]) => {
                const written = whole.data?.versions?.[`${part}.${key}`];
                return (
                  <div key={key}>
                    <dt>
                      <span className="mono">{key}</span>
                      {written && (
                        <span className="muted">
                          by {written.writer || "nobody"} at {clock(written.at, true)}
                        </span>
                      )}
                    </dt>
                    <dd>
                      <ValueView value={{ value, size: null }} none="null" />
                    </dd>
                  </div>
                );
              })}
            </dl>
          </section>
        );
      })}
    </div>
  );
}
