import { type FormEvent, useState } from "react";
import { ApiError, del, post, seg, useGet } from "../api/client";
import type { Drawn, Json, PlanChange, Plans, Status, Waiting } from "../api/types";
import { say } from "../app/notes";
import { go, link, useQuery } from "../app/route";
import { plural } from "../common/format";
import { Dialog, Failure, Loading } from "../common/ui";
import { labelOf } from "../live/labels";
import { LEFT_OUT, readDraft, type Wrong } from "./form";
import { Field } from "./SchemaForm";
import "./actions.css";

export type ActionName = "cancel" | "resume" | "fork" | "signal" | "delete";

interface Props {
  id: string;
  status: Status;
  drawn: Drawn | null;
  waiting: readonly Waiting[];
  close: () => void;
  done: () => void;
}

export function ActionDialog({ name, ...props }: Props & { name: ActionName }) {
  switch (name) {
    case "cancel":
      return <Cancel {...props} />;
    case "resume":
      return <Resume {...props} />;
    case "fork":
      return <Fork {...props} />;
    case "signal":
      return <Signal {...props} />;
    case "delete":
      return <Delete {...props} />;
  }
}

/** Runs what a dialog does once; its failure is shown in it. */
function useAct(close: () => void): { busy: boolean; error: Error | null; act: (what: () => Promise<void>) => void } {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<Error | null>(null);
  const act = (what: () => Promise<void>) => {
    setBusy(true);
    setError(null);
    what().then(close, (wrong: unknown) => {
      setError(wrong instanceof Error ? wrong : new Error(String(wrong)));
      setBusy(false);
    });
  };
  return { busy, error, act };
}

function Acts({ close, busy, word, danger, disabled }: {
  close: () => void;
  busy: boolean;
  word: string;
  danger?: boolean;
  disabled?: boolean;
}) {
  return (
    <div className="acts">
      <button type="button" onClick={close}>Back</button>
      <button type="submit" className={danger ? "danger" : "primary"} disabled={busy || disabled}>{busy ? "…" : word}</button>
    </div>
  );
}

function Form({ act, children }: { act: () => void; children: React.ReactNode }) {
  const submit = (event: FormEvent) => {
    event.preventDefault();
    act();
  };
  return <form className="fields" onSubmit={submit}>{children}</form>;
}

function Cancel({ id, close, done }: Props) {
  const { busy, error, act } = useAct(close);
  const cancel = async () => {
    await post(`executions/${seg(id)}/cancel`);
    say("Cancelled");
    done();
  };
  return (
    <Dialog title="Cancel this execution" close={close}>
      <Form act={() => act(cancel)}>
        <p>What runs is stopped. What is recorded stays, and it can be resumed.</p>
        {error && <Failure error={error} />}
        <Acts close={close} busy={busy} word="Cancel it" danger />
      </Form>
    </Dialog>
  );
}

function Delete({ id, close }: Props) {
  const { busy, error, act } = useAct(close);
  const remove = async () => {
    await del(`executions/${seg(id)}`).catch((error: unknown) => {
      if (!(error instanceof ApiError && error.status === 404)) throw error; // somebody else has
    });
    say("Deleted");
    go(link(["executions"]));
  };
  return (
    <Dialog title="Delete this execution" close={close}>
      <Form act={() => act(remove)}>
        <p>What is recorded of it is deleted, with its outputs, logs and blobs that nothing else uses. This can't be undone.</p>
        {error && <Failure error={error} />}
        <Acts close={close} busy={busy} word="Delete it" danger />
      </Form>
    </Dialog>
  );
}

const WHAT: Record<PlanChange["what"], string> = {
  again: "performed again", changed: "changed, performed again", new: "new", kept: "kept", removed: "no longer there",
};
const ORDER: readonly PlanChange["what"][] = ["changed", "again", "new", "removed", "kept"];

function Resume({ id, close, done }: Props) {
  const plan = useGet<Plans>(`executions/${seg(id)}/plan`);
  const { busy, error, act } = useAct(close);
  const resume = async () => {
    await post(`executions/${seg(id)}/resume`);
    say("Resumed");
    done();
  };
  return (
    <Dialog title="Resume this execution" close={close} wide>
      <Form act={() => act(resume)}>
        {plan.loading && <Loading what="Comparing with the diagram as it is now" />}
        {plan.error && <Failure error={plan.error} again={plan.again} />}
        {plan.data?.held && <p className="muted">Somebody runs it just now: it can be resumed when that has ended.</p>}
        {plan.data?.redrawn && <p>Its diagram was edited since; it goes on with the file as it is now.</p>}
        {plan.data && <Plan changes={plan.data.changes} results={plan.data.kept_results} />}
        {error && <Failure error={error} />}
        <Acts close={close} busy={busy} word="Resume" disabled={plan.loading} />
      </Form>
    </Dialog>
  );
}

/** What a resume keeps and what it performs, and why. */
function Plan({ changes, results }: { changes: readonly PlanChange[]; results: number }) {
  const groups = ORDER.map((what) => [what, changes.filter((each) => each.what === what)] as const)
    .filter(([, of]) => of.length > 0);
  if (groups.length === 0) return <p>Nothing is recorded yet; all of it is performed.</p>;
  return (
    <div className="plan">
      {results > 0 && <p className="muted">{plural(results, "recorded result")} kept.</p>}
      {groups.map(([what, of]) => (
        <details key={what} open={what !== "kept"}>
          <summary><strong>{plural(of.length, "node")}</strong> {WHAT[what]}</summary>
          <ul>
            {of.map((each) => (
              <li key={each.node}><span className="mono">{each.node}</span> {each.why && <span className="muted">{each.why}</span>}</li>
            ))}
          </ul>
        </details>
      ))}
    </div>
  );
}

function Fork({ id, drawn, close }: Props) {
  const selected = useQuery("node");
  const [node, setNode] = useState(selected?.split(/[[/]/)[0] ?? "");
  const { busy, error, act } = useAct(close);
  const fork = async () => {
    const made = await post<{ id: string }>(`executions/${seg(id)}/fork`, { at: node });
    say("Forked");
    go(link(["executions", made.id]));
  };
  return (
    <Dialog title="Fork from a node" close={close}>
      <Form act={() => act(fork)}>
        <p>A new execution takes what is recorded before the node, and performs the node and what follows.</p>
        <div className="field">
          <label className="label" htmlFor="fork-node">Node</label>
          <select id="fork-node" value={node} onChange={(event) => setNode(event.target.value)}>
            <option value="">choose …</option>
            {(drawn?.nodes ?? []).map((each) => <option key={each.id} value={each.id}>{labelOf(each) === null ? each.id : `${each.label} (${each.id})`}</option>)}
          </select>
        </div>
        {error && <Failure error={error} />}
        <Acts close={close} busy={busy} word="Fork" disabled={node === ""} />
      </Form>
    </Dialog>
  );
}

function Signal({ id, waiting, close, done }: Props) {
  const names = [...new Set(waiting.filter((each) => each.name).map((each) => each.name as string))];
  const [name, setName] = useState(names[0] ?? "");
  const [draft, setDraft] = useState("");
  const [wrong, setWrong] = useState<Wrong>({});
  const { busy, error, act } = useAct(close);
  const send = () => {
    const found: Wrong = {};
    const payload: Json = readDraft({}, draft, false, found);
    setWrong(found);
    if (Object.keys(found).length > 0) return;
    act(async () => {
      await post(`executions/${seg(id)}/signal`, { name, value: payload === LEFT_OUT ? null : payload });
      say(`Sent ${name}`);
      done();
    });
  };
  return (
    <Dialog title="Send a signal" close={close}>
      <Form act={send}>
        <p className="muted">
          {names.length > 0 ? `It waits for ${names.join(", ")}.` : "Nothing waits for one now; a signal that comes early waits for its node."}
        </p>
        <div className="field">
          <label className="label" htmlFor="signal-name">Name</label>
          <input id="signal-name" type="text" list="signal-names" value={name} onChange={(event) => setName(event.target.value)} />
          <datalist id="signal-names">{names.map((each) => <option key={each} value={each} />)}</datalist>
        </div>
        <Field schema={{}} name="payload" draft={draft} set={(to) => setDraft(String(to))} required={false} wrong={wrong} />
        {error && <Failure error={error} />}
        <Acts close={close} busy={busy} word="Send" disabled={name.trim() === ""} />
      </Form>
    </Dialog>
  );
}
