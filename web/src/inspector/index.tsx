import "./inspector.css";
import { useState } from "react";
import { seg, useGet } from "../api/client";
import { useMayWrite } from "../api/rights";
import { useConnection, useExecutionId, useExecutionView, useNode, useOf } from "../api/source";
import type { NodeStatus, Waiting } from "../api/types";
import { ActionDialog } from "../actions/ActionDialog";
import { AnswerDialog, Prompt } from "../actions/AnswerDialog";
import { setQuery, useQuery } from "../app/route";
import { clock, plural } from "../common/format";
import { CountList, Progress, StatusIcon, StatusText } from "../common/status";
import { Copy, Failure, Loading } from "../common/ui";
import { recorded } from "../api/recorded";
import { useInstant } from "../live/clock";
import { useDrawn, useLabels } from "../live/drawn";
import { groupsAround, parentOf } from "../live/paths";
import { select } from "../table/steps";
import { ENDED } from "../timeline/cells";
import { Tree } from "../values/Tree";
import { ValueView } from "../values/ValueView";
import { Lineage, Neighbours, Unreached } from "./Around";
import { Attempts, History, Times, Turns } from "./Attempts";
import { ErrorPanel } from "./ErrorPanel";
import { Logs } from "./Logs";
import { Section } from "./Section";
import { StepList } from "./Steps";
import type { NodeDetail } from "./types";
import { useSteps } from "./useSteps";

export { ContextPanel } from "./ContextPanel";

const UNSEEN_S = 2;

/** All that is known of one node. */
export function Inspector({ path }: { path: string }) {
  const id = useExecutionId();
  const view = useNode(path);
  const still = useConnection() === "still";
  const running = useOf((source) => source.execution()?.status === "running");
  const asked = { iteration: useQuery("iteration"), attempt: useQuery("attempt") };
  // of an instant the attempt of that instant, unless one was picked
  const turn =
    still && asked.iteration === null && view?.attempt
      ? { iteration: view.iteration ?? null, attempt: String(view.attempt) }
      : asked;
  const stale = useOf((source) => source.execution()?.status === "stale");
  const label = useLabels()(path);
  // while the root is heard of, a root node that is not has not been reached
  const known = useOf((source) => source.execution() !== null);
  const pending =
    view === undefined ? still || (known && parentOf(path) === null) : view.status === "pending";
  // … and once more when all has ended
  const key = `${view?.status} ${view?.iteration} ${view?.attempt} ${view?.claims ?? ""} ${view === undefined && running}`;
  const got = useGet<NodeDetail>(
    pending && asked.iteration === null ? null : `executions/${seg(id)}/node`,
    { path, ...turn },
    // what is in a closed group is not heard of: then ask now and then
    view === undefined && running && !still ? UNSEEN_S : null,
    still ? "" : key,
  );
  const detail = got.data?.id === path ? got.data : null;
  const status: NodeStatus =
    (still || turn.attempt === null ? view?.status : detail?.status) ?? detail?.status ?? "pending";
  return (
    <div className="inspector">
      <header>
        <div className="inspector-title">
          <StatusIcon status={status} size={16} />
          <h2>
            <Path path={path} />
          </h2>
          <button
            type="button"
            className="plain"
            aria-label="Close the inspector (Esc)"
            title="Close (Esc)"
            onClick={() => setQuery({ node: null, iteration: null, attempt: null })}
          >
            ✕
          </button>
        </div>
        <p className="inspector-sub">
          <StatusText status={status} was={stale} />
          {label && <strong>{label}</strong>}
          {(view?.type ?? detail?.type) && <span className="muted">{view?.type ?? detail?.type}</span>}
          {still && <span className="tag">as it was</span>}
        </p>
      </header>
      {got.error && detail === null ? (
        got.error.status === 404 && got.error.type !== "NotRecorded" ? (
          asked.iteration !== null || asked.attempt !== null ? (
            <NoSuchAttempt />
          ) : (
            <Unreached path={path} />
          )
        ) : (
          <Failure error={got.error} again={got.again} />
        )
      ) : pending && asked.iteration === null ? (
        <Unreached path={path} />
      ) : detail === null ? (
        <Loading />
      ) : (
        <Body
          id={id}
          path={path}
          detail={detail}
          status={status}
          picked={turn}
          over={!still || ENDED.has(status) || status === "retrying"}
          again={got.again}
        />
      )}
    </div>
  );
}

/** An address from somewhere else, or of what a resume took away. */
function NoSuchAttempt() {
  return (
    <p className="muted">
      It has no such attempt.{" "}
      <button type="button" className="link" onClick={() => setQuery({ iteration: null, attempt: null }, true)}>
        The latest
      </button>
    </p>
  );
}

/** A path whose groups are links. */
function Path({ path }: { path: string }) {
  const around = groupsAround(path);
  let at = 0;
  return (
    <>
      {around.map((group) => {
        const text = path.slice(at, group.length);
        at = group.length;
        return (
          <button key={group} type="button" className="link" onClick={() => select(group, false)}>
            {text}
          </button>
        );
      })}
      {path.slice(at)}
    </>
  );
}

function Body({
  id,
  path,
  detail,
  status,
  picked,
  over,
  again,
}: {
  id: string;
  path: string;
  detail: NodeDetail;
  status: NodeStatus;
  picked: { iteration: string | null; attempt: string | null };
  over: boolean;
  again: () => void;
}) {
  const gone = useConnection() === "gone";
  const mayWrite = useMayWrite() && !gone;
  const [fork, setFork] = useState(false);
  const [answer, setAnswer] = useState(false);
  const at = detail.attempts.findIndex(
    (one) => one.iteration === (detail.iteration ?? "1") && one.attempt === (detail.attempt ?? 1),
  );
  const attempt = detail.attempts[at] ?? null;
  const group = useNode(path)?.group ?? detail.group;
  const error = over ? detail.error : null;
  const several = detail.attempts.length > 1;
  const waits = over && detail.status === "suspended" && detail.request != null;
  const execution = useExecutionView();
  const drawn = useDrawn();
  const instant = useInstant();
  const latest = instant === null && picked.attempt === null && recorded() === null;
  const steps = useSteps(id, path, useNode(path), detail.recorded, latest);
  return (
    <>
      {several && <Turns attempts={detail.attempts} at={at} />}
      <Times detail={detail} status={status} over={over} />
      {group && (
        <div className="inspector-group">
          <Progress counts={group.counts} total={group.total} />
          <CountList counts={group.counts} />
        </div>
      )}
      {error && (
        <ErrorPanel
          type={error.type}
          message={error.message}
          traceback={detail.traceback ?? attempt?.traceback}
          details={detail.details}
        />
      )}
      {waits && (
        <div className="inspector-ask">
          {detail.request?.prompt ? (
            <Prompt text={detail.request.prompt} />
          ) : (
            <p>
              {detail.request?.name
                ? `Waits for the signal ${detail.request.name}`
                : `Waits: ${detail.request?.kind}`}
            </p>
          )}
          {detail.wake_at != null && <p className="muted">until {clock(detail.wake_at)}</p>}
          {mayWrite && detail.request?.kind === "answer" && (
            <button type="button" className="primary" onClick={() => setAnswer(true)}>
              Answer
            </button>
          )}
        </div>
      )}
      {(steps.items.length > 0 || steps.partial !== "") && (
        <Section title={steps.items.length > 0 ? plural(steps.items.length, "step") : "Steps"} open>
          <StepList steps={steps} at={instant} />
        </Section>
      )}
      {(detail.has_output || over) && detail.status !== "suspended" && !error && (
        <Section title="Output" open>
          {over ? (
            <ValueView
              value={detail.output}
              none={ENDED.has(detail.status) ? "It gave nothing." : "It has not ended."}
            />
          ) : (
            <p className="muted">At this instant it had not ended.</p>
          )}
        </Section>
      )}
      <Section title="Inputs" open>
        {detail.inputs_error ? (
          <p className="muted">{detail.inputs_error}</p>
        ) : (
          <ValueView value={detail.inputs} none="It got nothing." />
        )}
      </Section>
      <Section title="Log" open>
        <Logs
          id={id}
          path={path}
          attempt={picked.attempt === null ? null : Number(picked.attempt)}
          alive={!ENDED.has(detail.status)}
        />
      </Section>
      {several && (
        <Section title={plural(detail.attempts.length, "attempt")}>
          <Attempts path={path} attempts={detail.attempts} at={at} />
        </Section>
      )}
      <Section title="History">
        <History attempts={detail.attempts} />
      </Section>
      <Section title="Neighbours" open>
        <Neighbours name="after" paths={detail.upstream} />
        <Neighbours name="before" paths={detail.downstream} />
        {detail.upstream.length + detail.downstream.length === 0 && (
          <p className="muted">No arrow touches it.</p>
        )}
      </Section>
      <Section title="Lineage">
        <Lineage detail={detail} attempt={attempt} />
      </Section>
      {detail.properties && Object.keys(detail.properties).length > 0 && (
        <Section title="Properties">
          <Tree value={detail.properties} />
        </Section>
      )}
      <p className="inspector-foot muted">
        {detail.source?.file && <Copy text={`${detail.source.file}:${detail.source.line}`} />}
        {mayWrite && (
          <button type="button" onClick={() => setFork(true)}>
            Fork from here
          </button>
        )}
      </p>
      {answer && (
        <AnswerDialog id={id} waiting={waitingOf(path, detail)} close={() => setAnswer(false)} done={again} />
      )}
      {fork && (
        <ActionDialog
          name="fork"
          id={id}
          status={execution?.status ?? "completed"}
          drawn={drawn}
          waiting={[]}
          close={() => setFork(false)}
          done={again}
        />
      )}
    </>
  );
}

const waitingOf = (path: string, detail: NodeDetail): Waiting => ({
  node: path,
  iteration: detail.iteration ?? "1",
  kind: detail.request?.kind ?? "answer",
  prompt: detail.request?.prompt ?? null,
  schema: detail.request?.schema ?? null,
  name: detail.request?.name ?? null,
  step: detail.request?.step ?? null,
  wake_at: detail.wake_at ?? null,
});
