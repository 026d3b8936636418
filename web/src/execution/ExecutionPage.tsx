import { lazy, Suspense, useEffect, useMemo, useRef, useState } from "react";
import { seg, useGet } from "../api/client";
import { type LiveSource, SourceProvider, useConnection, useExecutionView } from "../api/source";
import { ActionDialog, type ActionName } from "../actions/ActionDialog";
import { AnswerDialog } from "../actions/AnswerDialog";
import type { Drawn, ExecutionDetail, ExecutionView, Waiting } from "../api/types";
import { nodeCommands, useCommands } from "../app/commands";
import { useKeys } from "../app/keys";
import { go, link, setQuery, useQuery } from "../app/route";
import { Empty, Failure, Loading, Tabs } from "../common/ui";
import { last } from "../executions/last";
import { filter } from "../table/wanted";
import { isGroup } from "../graph/scene";
import { openLive } from "../live";
import { Header } from "./Header";
import "./execution.css";

const graph = () => import("../graph/Graph");
const Graph = lazy(() => graph().then((module) => ({ default: module.Graph })));
const Timeline = lazy(() => import("../timeline").then((module) => ({ default: module.Timeline })));
const NodeTable = lazy(() => import("../table").then((module) => ({ default: module.NodeTable })));
const Inspector = lazy(() => import("../inspector").then((module) => ({ default: module.Inspector })));
const About = lazy(() => import("./About").then((module) => ({ default: module.About })));
const ContextPanel = lazy(() => import("../inspector").then((module) => ({ default: module.ContextPanel })));
const travel = () => import("../travel");
const TravelBar = lazy(() => travel().then((module) => ({ default: module.TravelBar })));

const VIEWS = ["graph", "timeline", "table", "context", "about"] as const;
type View = (typeof VIEWS)[number];
const TABS = [["graph", "Graph"], ["timeline", "Timeline"], ["table", "Table"], ["context", "Context"], ["about", "Inputs, result"]] as const;
const RUNNING_S = 2;
const SOON_S = 0.5;
const ENDED_S = 20;
/** The server looks at each of them to answer. */
const NODES_A_SECOND = 1000;

export function ExecutionPage({ id }: { id: string }) {
  const [live, setLive] = useState<LiveSource | null>(null);
  useEffect(() => {
    Promise.all([import("../graph/elk").then(({ warm }) => warm()), graph(), travel()]).catch(() => undefined); // while the answers come; the views say what is wrong
    const source = openLive(id);
    setLive(source);
    return () => source.close();
  }, [id]);
  if (live === null) return null;
  return (
    <SourceProvider source={live}>
      <ExecutionShell id={id} live={live} />
    </SourceProvider>
  );
}

/** One that waits may go on and wait for something else between two looks, so the count is part of it. */
function standOf(view: ExecutionView | null): string {
  if (view === null) return "";
  return `${view.status} ${view.round ?? ""} ${view.status === "running" ? "" : view.counts?.completed ?? 0}`;
}

function ExecutionShell({ id, live }: { id: string; live: LiveSource }) {
  const connection = useConnection();
  const view = useExecutionView();
  const moving = view === null || view.status === "running";
  const stand = standOf(view);
  const told = useRef("");
  // What is live may be ahead of what is written: then it is asked again soon.
  const every = moving ? RUNNING_S + (view?.total ?? 0) / NODES_A_SECOND : told.current === stand ? ENDED_S : SOON_S;
  // The server looks at every cell for it: of a large one the socket's snapshot shall not wait for that.
  const seen = view !== null || connection !== "connecting";
  const detail = useGet<ExecutionDetail>(seen ? `executions/${seg(id)}` : null, {}, every, stand);
  told.current = standOf(detail.data);
  const drawn = useGet<Drawn>(`executions/${seg(id)}/diagram`, {}, null, `${view?.diagram ?? ""}`);
  const [action, setAction] = useState<ActionName | null>(null);
  const [answer, setAnswer] = useState<Waiting | null>(null);
  const asked = useQuery("tab");
  const tab: View = VIEWS.find((each) => each === asked) ?? "graph";
  const node = useQuery("node");
  const open = useQuery("open") ?? "";
  useEffect(() => {
    live.open(open.split(",").filter((key) => key !== "" && isGroup(key)));
  }, [live, open]);
  useEffect(() => {
    document.title = view ? `${view.name || id} · ${view.stale ? "stale" : view.status} · Treadle` : "Treadle";
    return () => {
      document.title = "Treadle";
    };
  }, [view, id]);

  const turn = () => setQuery({ tab: VIEWS[(VIEWS.indexOf(tab) + 1) % 3] ?? "graph" }, true);
  useKeys({
    g: ["graph, timeline, table in turn", turn],
    "/": ["filter the nodes", () => {
      filter.wanted = true;
      setQuery({ tab: "table" });
    }],
    Escape: ["back", () => (node === null ? go(link(["executions"], { ...last.filters, at: id })) : setQuery({ node: null, iteration: null, attempt: null }))],
  });
  useCommands(useMemo(() => [
    ...TABS.map(([each, text]) => ({ title: text, hint: "g", act: () => setQuery({ tab: each }) })),
    ...nodeCommands(drawn.data),
  ], [drawn.data]));

  if (detail.error?.status === 404 && detail.data === null) {
    return (
      <Empty title="There is no such execution">
        <p className="mono">{id}</p>
        <p><a href={link(["executions"])}>All executions</a></p>
      </Empty>
    );
  }
  if (view === null && detail.data === null) {
    return detail.error ? <Failure error={detail.error} again={detail.again} /> : <Loading what="Loading the execution" />;
  }
  const current = view ?? detail.data;
  // Not in the head: that is made anew when the bar for travelling has loaded, and a dialog would go with it.
  const dialogs = (
    <>
      {answer && <AnswerDialog id={id} waiting={answer} close={() => setAnswer(null)} done={detail.again} />}
      {action && (
        <ActionDialog
          name={action}
          id={id}
          status={current?.stale ? "stale" : current?.status ?? "pending"}
          drawn={drawn.data}
          waiting={detail.data?.waiting ?? []}
          close={() => setAction(null)}
          done={detail.again}
        />
      )}
    </>
  );
  const head = (
    <>
      <Header id={id} now={view} gone={connection === "gone"} detail={detail.data} act={setAction} reply={setAnswer} />
      {connection === "reconnecting" && (
        <div className="banner" role="status">The connection is lost; what is shown is the last that came. Trying again …</div>
      )}
      {connection === "gone" && <div className="banner" role="status">This execution was deleted. <a href={link(["executions"])}>All executions</a></div>}
      <Tabs label="Views" tabs={TABS} at={tab} pick={(to) => setQuery({ tab: to })} />
    </>
  );
  return (
    <div className={view?.status === "stale" ? "execution is-stale" : "execution"}>
      <Suspense fallback={<>{head}<Loading /></>}>
        <TravelBar live={live} drawn={drawn.data}>
          {head}
          <div className={node === null ? "split" : "split inspected"}>
            <section className="view" aria-label="View">
              <Suspense fallback={<Loading />}>
                {tab === "graph" && (drawn.data
                  ? <Graph drawn={drawn.data} />
                  : drawn.error ? <Failure error={drawn.error} again={drawn.again} /> : <Loading what="Loading the diagram" />)}
                {tab === "timeline" && <Timeline />}
                {tab === "table" && <NodeTable />}
                {tab === "context" && <ContextPanel />}
                {tab === "about" && <About detail={detail.data} drawn={drawn.data} />}
              </Suspense>
            </section>
            {node !== null && (
              <aside className="inspect" aria-label={`Node ${node}`}>
                <Suspense fallback={<Loading />}>
                  <Inspector path={node} />
                </Suspense>
              </aside>
            )}
          </div>
        </TravelBar>
      </Suspense>
      {dialogs}
    </div>
  );
}
