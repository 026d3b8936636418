import { lazy, Suspense } from "react";
import type { Drawn, ExecutionDetail, Json } from "../api/types";
import { link, setQuery } from "../app/route";
import { local, plural, seconds } from "../common/format";
import { Loading } from "../common/ui";
import { ValueView } from "../values/ValueView";

const Throughput = lazy(() => import("../figures/Throughput").then((module) => ({ default: module.Throughput })));

interface Slow {
  node: string;
  iteration: string;
  attempt: number;
  seconds: number;
}

/** What an execution was given and gave, and where its time went. */
export function About({ detail, drawn }: { detail: ExecutionDetail | null; drawn: Drawn | null }) {
  if (detail === null) return <Loading />;
  const slowest = (detail.metrics?.slowest ?? []) as Slow[];
  const path = detail.metrics?.critical_path ?? [];
  const options = Object.entries((detail.options ?? {}) as Record<string, Json>);
  return (
    <div className="about-execution">
      <section>
        <h2>Result</h2>
        {detail.output ? <ValueView value={detail.output} none={detail.ended_at ? "nothing" : "not yet"} /> : <p className="muted">not yet</p>}
      </section>
      <section>
        <h2>Inputs</h2>
        {detail.inputs ? <ValueView value={detail.inputs} none="none" /> : <p className="muted">none</p>}
      </section>
      <Suspense fallback={null}><Throughput /></Suspense>
      {slowest.length > 0 && (
        <section>
          <h2>Slowest</h2>
          <table className="slowest">
            <tbody>
              {slowest.map((each) => (
                <tr key={`${each.node} ${each.iteration} ${each.attempt}`}>
                  <td className="num">{seconds(each.seconds)}</td>
                  <td>
                    <button type="button" className="link mono" onClick={() => setQuery({ node: each.node })}>{each.node}</button>
                    {each.iteration !== "1" && <span className="muted"> turn {each.iteration}</span>}
                    {each.attempt > 1 && <span className="muted"> attempt {each.attempt}</span>}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </section>
      )}
      {path.length > 0 && (
        <section>
          <h2>Critical path <small className="muted">{seconds(detail.metrics?.critical_s)}, what the end waited for</small></h2>
          <ol className="path">
            {path.slice(0, PATH_SHOWN).map((node, k) => (
              <li key={k}><button type="button" className="link mono" onClick={() => setQuery({ node })}>{node}</button></li>
            ))}
          </ol>
          {path.length > PATH_SHOWN && <p className="muted">and {plural(path.length - PATH_SHOWN, "more node")}</p>}
        </section>
      )}
      <section>
        <h2>Execution</h2>
        <dl className="facts">
          <Fact name="created">{local(detail.created_at)}</Fact>
          <Fact name="started">{local(detail.started_at)}</Fact>
          <Fact name="ended">{local(detail.ended_at)}</Fact>
          <Fact name="deadline">{local(detail.deadline_at)}</Fact>
          <Fact name="run by">{detail.owner}</Fact>
          <Fact name="round">{detail.round}</Fact>
          {drawn?.hash && <Fact name="diagram"><a className="mono" href={link(["diagrams", drawn.hash])}>{drawn.hash.slice(0, 12)}</a></Fact>}
          {options.map(([name, value]) => <Fact key={name} name={name}>{typeof value === "string" ? value : JSON.stringify(value)}</Fact>)}
          <Fact name="plugins">{((detail.plugins ?? []) as string[]).join(", ")}</Fact>
        </dl>
      </section>
    </div>
  );
}

const PATH_SHOWN = 200;

function Fact({ name, children }: { name: string; children: React.ReactNode }) {
  if (children === null || children === undefined || children === "") return null;
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}
