import "./diff.css";
import { useEffect, useState } from "react";
import { seg, useGet } from "../api/client";
import type { Page, Summary } from "../api/types";
import { useCommands } from "../app/commands";
import { useKeys } from "../app/keys";
import { go, link } from "../app/route";
import { ago } from "../common/format";
import { StatusText } from "../common/status";
import { Dialog, Failure, Loading, useNow } from "../common/ui";

const SHOWN = 30;
const WAIT_MS = 150;

/** `d`: compare the execution with another. */
export function CompareKey({ id, name, parent }: { id: string; name: string; parent: string | null }) {
  const [open, setOpen] = useState(false);
  useKeys({ d: ["compare with another execution", () => setOpen(true)] });
  useCommands([{ title: "Compare this execution with another", hint: "d", act: () => setOpen(true) }]);
  return open ? <Pick id={id} name={name} parent={parent} close={() => setOpen(false)} /> : null;
}

/** Which other one; what it is a fork of first, then those of the same diagram. */
function Pick({
  id,
  name,
  parent,
  close,
}: {
  id: string;
  name: string;
  parent: string | null;
  close: () => void;
}) {
  const [typed, setTyped] = useState("");
  const [text, setText] = useState("");
  useEffect(() => {
    const timer = setTimeout(() => setText(typed), WAIT_MS);
    return () => clearTimeout(timer);
  }, [typed]);
  const got = useGet<Page<Summary>>("executions", { text, limit: 2 * SHOWN });
  const origin = useGet<Summary>(parent === null ? null : `executions/${seg(parent)}`);
  const now = useNow(10);
  const first = text === "" ? origin.data : null;
  const others = (got.data?.items ?? []).filter((one) => one.id !== id && one.id !== first?.id);
  const sorted = [
    ...(first === null ? [] : [first]),
    ...others.filter((one) => one.name === name),
    ...others.filter((one) => one.name !== name),
  ].slice(0, SHOWN);
  return (
    <Dialog title="Compare with" close={close}>
      <input
        autoFocus
        type="search"
        placeholder="Name or id"
        aria-label="Name or id of the other execution"
        value={typed}
        onChange={(event) => setTyped(event.target.value)}
        onKeyDown={(event) => {
          const [top] = sorted;
          if (event.key === "Enter" && top) go(link(["diff", top.id, id]));
        }}
      />
      {got.error ? (
        <Failure error={got.error} again={got.again} />
      ) : got.data === null ? (
        <Loading />
      ) : (
        <ul className="compare-list">
          {sorted.map((one) => (
            <li key={one.id}>
              <a href={link(["diff", one.id, id])}>
                <StatusText status={one.stale ? "stale" : one.status} />
                <span className="grow cut-text">
                  {one.name || "unnamed"} <span className="muted mono">{one.id}</span>
                  {one.id === parent && <span className="muted"> · this is a fork of it</span>}
                </span>
                <span className="muted">{ago(one.started_at ?? one.created_at, now)}</span>
              </a>
            </li>
          ))}
          {sorted.length === 0 && <li className="muted">There is no other execution by that name.</li>}
        </ul>
      )}
    </Dialog>
  );
}
