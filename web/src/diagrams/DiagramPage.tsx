import { lazy, Suspense, useState } from "react";
import { StartDialog } from "../actions/StartDialog";
import { post, seg, useGet } from "../api/client";
import { useMayWrite } from "../api/rights";
import { SourceProvider } from "../api/source";
import type { Drawn, DrawnNode } from "../api/types";
import { nodeCommands, useCommands } from "../app/commands";
import { useKeys } from "../app/keys";
import { go, link, setQuery, useQuery } from "../app/route";
import { plural } from "../common/format";
import { Failure, Loading } from "../common/ui";
import { labelOf } from "../live/labels";
import { Faults } from "./Faults";
import { stillSource } from "./still";
import { usePosted } from "./posted";
import "./diagrams.css";

const Graph = lazy(() => import("../graph/Graph").then((module) => ({ default: module.Graph })));
const STILL = stillSource("diagram");
const AGAIN_S = 3;

/** A diagram before it runs: drawn, with what the check found. A file is looked at again while one edits it. */
export function DiagramPage({ hash }: { hash: string }) {
  const file = useQuery("file");
  const stored = useGet<Drawn>(file === null ? `diagrams/${seg(hash)}` : null);
  const checked = usePosted<Drawn>(file === null ? null : () => post("check", { file }), file ?? "", AGAIN_S);
  const got = file === null ? stored : checked;
  const node = useQuery("node");
  const [start, setStart] = useState(false);
  const drawn = got.data;
  const faults = drawn?.faults ?? [];
  const mayWrite = useMayWrite();
  const broken = faults.some((each) => each.severity === "error");
  useKeys({
    s: ["start it", () => drawn && !broken && mayWrite && setStart(true)],
    Escape: ["back", () => (node === null ? go(link(["diagrams"])) : setQuery({ node: null }))],
  });
  useCommands([
    ...(mayWrite && !broken ? [{ title: "Start this diagram", hint: "s", act: () => setStart(true) }] : []),
    ...nodeCommands(drawn),
  ]);
  if (drawn === null) return got.error ? <Failure error={got.error} again={got.again} /> : <Loading what="Checking" />;
  const chosen = drawn.nodes.find((each) => each.id === node);
  return (
    <SourceProvider source={STILL}>
      <div className="execution">
        <header className="execution-head">
          <div className="title">
            <h1>{drawn.name || "unnamed"}</h1>
            <span className="mono muted">{file ?? hash.slice(0, 16)}</span>
            <span className="muted">{plural(drawn.nodes.length, "node")}</span>
            <span className="grow" />
            {mayWrite && <button type="button" className="primary" disabled={broken} title={broken ? "Its faults have to be mended first" : "s"} onClick={() => setStart(true)}>
              Start …
            </button>}
          </div>
          {drawn.description && <p className="muted">{drawn.description}</p>}
          {got.error && <Failure error={got.error} />}
        </header>
        <div className={chosen ? "split inspected" : "split"}>
          <section className="view" aria-label="Graph">
            <Faults faults={faults} />
            <Suspense fallback={<Loading />}>
              {drawn.nodes.length > 0 && <Graph drawn={drawn} faults={faults} />}
            </Suspense>
          </section>
          {chosen && <aside className="inspect" aria-label={`Node ${chosen.id}`}><Spec node={chosen} drawn={drawn} /></aside>}
        </div>
        {start && <StartDialog drawn={drawn} by={file === null ? { hash } : { file }} close={() => setStart(false)} />}
      </div>
    </SourceProvider>
  );
}

/** What a node says in the file. */
function Spec({ node, drawn }: { node: DrawnNode; drawn: Drawn }) {
  const into = drawn.arrows.filter((arrow) => arrow.target === node.id);
  const out = drawn.arrows.filter((arrow) => arrow.source === node.id);
  return (
    <div className="spec">
      <header>
        <h2>{node.id}</h2>
        {labelOf(node) !== null && <strong>{node.label}</strong>}
        <span className="muted">{node.type}</span>
        <span className="grow" />
        <button type="button" className="plain" aria-label="Close" onClick={() => setQuery({ node: null })}>✕</button>
      </header>
      {Object.entries(node.properties ?? {}).length > 0 && (
        <dl className="properties">
          {Object.entries(node.properties ?? {}).map(([key, value]) => (
            <div key={key}>
              <dt>{key}</dt>
              <dd><pre>{typeof value === "string" ? value : JSON.stringify(value, null, 2)}</pre></dd>
            </div>
          ))}
        </dl>
      )}
      {([["After", into, "source"], ["Before", out, "target"]] as const).map(([title, arrows, end]) => arrows.length > 0 && (
        <section key={title}>
          <h3>{title}</h3>
          <ul>
            {arrows.map((arrow, k) => (
              <li key={k}>
                <button type="button" className="link mono" onClick={() => setQuery({ node: arrow[end] })}>{arrow[end]}</button>{" "}
                <span className="muted">{[arrow.port !== "default" && arrow.port, arrow.input && `→ ${arrow.input}`].filter(Boolean).join(" ")}</span>
              </li>
            ))}
          </ul>
        </section>
      ))}
    </div>
  );
}
