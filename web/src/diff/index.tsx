import "./diff.css";
import { type ReactNode, useMemo, useState } from "react";
import { useGet } from "../api/client";
import { useKeys } from "../app/keys";
import { go, link, setQuery, useQuery } from "../app/route";
import { count, plural, seconds } from "../common/format";
import { StatusText } from "../common/status";
import { Empty, Failure, Loading } from "../common/ui";
import { nextOf, stepped } from "../table/steps";
import { Tree } from "../values/Tree";
import {
  brief,
  type Difference,
  type NodeDiff,
  type Pair,
  PARTS,
  type Part,
  type Places,
  ratio,
  type Shown,
  type Side,
  shown,
} from "./rows";

const PAGE = 200;
const WORDS: Record<Part, string> = {
  only: "in one only",
  status: "status",
  output: "output",
  error: "error",
  times: "time",
  code: "code",
};

/** What differs between two executions: diagram, inputs, results, and node by node. */
export function Diff({ a, b }: { a: string; b: string }) {
  const got = useGet<Difference>("diff", { a, b });
  const picked = useQuery("part");
  const part = PARTS.find((one) => one === picked) ?? null;
  const [most, setMost] = useState(PAGE);
  const found = got.data;
  const rows = useMemo(() => (found ? shown(found, part) : []), [found, part]);
  const selected = useQuery("node");
  const keys = rows.map(keyOf);
  const select = (key: string | null) => setQuery({ node: key }, true);
  useKeys({
    j: ["next difference", () => select(stepped(keys, selected, 1))],
    k: ["difference before", () => select(stepped(keys, selected, -1))],
    e: [
      "next that failed",
      () =>
        select(nextOf(keys, selected, (key) => rows.some((one) => keyOf(one) === key && failed(one.node)))),
    ],
    Escape: ["back", () => (selected === null ? go(link(["executions", b])) : select(null))],
  });
  if (found === null)
    return got.error ? <Failure error={got.error} again={got.again} /> : <Loading what="Comparing" />;
  const { diagram } = found;
  const changed =
    diagram.added.length +
    diagram.removed.length +
    Object.keys(diagram.changed).length +
    diagram.other.length;
  return (
    <div className="diff">
      <header>
        <SideView name="A" side={found.a} />
        <button
          type="button"
          title="Swap the sides"
          aria-label="Swap the sides"
          onClick={() => go(link(["diff", b, a]))}
        >
          ⇄
        </button>
        <SideView name="B" side={found.b} than={found.a.seconds} />
      </header>
      {found.same && (
        <p className="same">
          They are the same{found.nodes.length > 0 ? " but for times" : ""}: {plural(found.alike, "node")}{" "}
          alike.
        </p>
      )}
      {found.error && (
        <Block title="Error">
          <Two pair={found.error} />
        </Block>
      )}
      {changed > 0 && (
        <Block title="Diagram" count={changed}>
          <ul className="code">
            {diagram.added.map((node) => (
              <li key={`+${node}`}>
                <span className="plus">+ added</span> <code>{node}</code>
              </li>
            ))}
            {diagram.removed.map((node) => (
              <li key={`-${node}`}>
                <span className="minus">− removed</span> <code>{node}</code>
              </li>
            ))}
            {Object.entries(diagram.changed).map(([node, what]) => (
              <li key={`~${node}`}>
                <span className="tilde">~ changed</span> <code>{node}</code>{" "}
                <span className="muted">{what}</span>
              </li>
            ))}
            {diagram.other.map((what) => (
              <li key={what}>
                <span className="tilde">~</span> {what}
              </li>
            ))}
          </ul>
        </Block>
      )}
      {found.inputs && (
        <Block title="Inputs" count={found.inputs.count}>
          <PlacesView places={found.inputs} />
        </Block>
      )}
      {found.output && (
        <Block title="Result" count={found.output.count}>
          <PlacesView places={found.output} />
        </Block>
      )}
      {found.context && (
        <Block title="Context" count={found.context.count}>
          <PlacesView places={found.context} />
        </Block>
      )}
      <section>
        <h2>
          Nodes{" "}
          <small className="muted">
            {plural(found.nodes.length, "node")} differ, {count(found.alike)} alike
          </small>
        </h2>
        <Filter found={found} part={part} />
        {rows.length === 0 && <Empty title={part === null ? "No node differs" : "No node differs so"} />}
        {rows.length > 0 && (
          <ul className="nodes">
            {rows.slice(0, most).map((one) => (
              <Row
                key={keyOf(one)}
                one={one}
                found={found}
                open={keyOf(one) === selected}
                pick={() => select(keyOf(one) === selected ? null : keyOf(one))}
              />
            ))}
          </ul>
        )}
        {rows.length > most && (
          <button type="button" onClick={() => setMost(most + 5 * PAGE)}>
            {plural(rows.length - most, "more node")}
          </button>
        )}
      </section>
    </div>
  );
}

const keyOf = ({ node }: Shown): string =>
  node.iteration === "1" ? node.node : `${node.node} ${node.iteration}`;
const failed = (node: NodeDiff): boolean => node.error != null || (node.status?.includes("failed") ?? false);

function SideView({ name, side, than }: { name: string; side: Side; than?: number | null }) {
  return (
    <div className="side">
      <span className="letter">{name}</span>
      <div>
        <a href={link(["executions", side.execution_id])}>{side.name || "unnamed"}</a>{" "}
        <code className="muted">{side.execution_id}</code>
        <p>
          <StatusText status={side.status} /> <span className="muted">{seconds(side.seconds)}</span>{" "}
          {than != null && side.seconds != null && (
            <span className="muted">{ratio([than, side.seconds])}</span>
          )}
        </p>
      </div>
    </div>
  );
}

function Block({ title, count: n, children }: { title: string; count?: number; children: ReactNode }) {
  return (
    <section>
      <h2>
        {title} {n ? <small className="muted">{plural(n, "difference")}</small> : null}
      </h2>
      {children}
    </section>
  );
}

function Filter({ found, part }: { found: Difference; part: Part | null }) {
  const all = useMemo(() => shown(found, null), [found]);
  return (
    <p className="chips">
      {PARTS.map((one) => {
        const n = all.filter(({ parts }) => parts.has(one)).length;
        if (n === 0) return null;
        return (
          <button
            key={one}
            type="button"
            className="chip"
            aria-pressed={part === one}
            onClick={() => setQuery({ part: part === one ? null : one }, true)}
          >
            {WORDS[one]} <span className="muted">{count(n)}</span>
          </button>
        );
      })}
    </p>
  );
}

function Row({
  one: { node, parts },
  found,
  open,
  pick,
}: {
  one: Shown;
  found: Difference;
  open: boolean;
  pick: () => void;
}) {
  const where = (id: string) =>
    link(["executions", id], { node: node.node, iteration: node.iteration === "1" ? null : node.iteration });
  return (
    <li className={open ? "open" : ""}>
      <button
        type="button"
        aria-expanded={open}
        onClick={pick}
        ref={(element) => {
          if (open) element?.scrollIntoView({ block: "nearest" });
        }}
      >
        <span className="muted">{open ? "▾" : "▸"}</span>
        <span className="mono">{node.node}</span>
        {node.iteration !== "1" && <span className="muted">iteration {node.iteration}</span>}
        <span className="grow" />
        {node.only && <span className="muted">only in {node.only.toUpperCase()}</span>}
        {node.status && (
          <span className="two">
            <StatusText status={node.status[0]} /> → <StatusText status={node.status[1]} />
          </span>
        )}
        {[...parts]
          .filter((part) => part !== "only" && part !== "status")
          .map((part) => (
            <span key={part} className="tag">
              {WORDS[part]}
            </span>
          ))}
        {parts.has("status") && !node.status && (
          <span className="tag">{node.port ? "port" : "attempts"}</span>
        )}
      </button>
      {open && (
        <div className="more">
          {parts.has("code") && (
            <p>
              <span className="tilde">~</span> {found.diagram.changed[node.node]}
            </p>
          )}
          {node.attempts && (
            <p>
              attempts: {node.attempts[0]} → {node.attempts[1]}
            </p>
          )}
          {node.port && (
            <p>
              port: {node.port[0]} → {node.port[1]}
            </p>
          )}
          {node.seconds && (
            <p>
              time: {seconds(node.seconds[0])} → {seconds(node.seconds[1])}{" "}
              <span className="muted">{ratio(node.seconds)}</span>
            </p>
          )}
          {node.error && <Two pair={node.error} />}
          {node.output && <PlacesView places={node.output} />}
          <p className="muted links">
            {node.only !== "b" && <a href={where(found.a.execution_id)}>See it in A</a>}
            {node.only !== "a" && <a href={where(found.b.execution_id)}>See it in B</a>}
          </p>
        </div>
      )}
    </li>
  );
}

function Two({ pair }: { pair: NonNullable<Pair<string | null>> }) {
  return (
    <div className="pair">
      <pre className="minus">{pair[0] ?? "no error"}</pre>
      <pre className="plus">{pair[1] ?? "no error"}</pre>
    </div>
  );
}

function PlacesView({ places }: { places: Places }) {
  const [most, setMost] = useState(20);
  return (
    <div className="places">
      {places.note && <p className="muted">{places.note}</p>}
      <table>
        <thead>
          <tr>
            <th>Where</th>
            <th>A</th>
            <th>B</th>
          </tr>
        </thead>
        <tbody>
          {places.places.slice(0, most).map((one) => (
            <tr key={one.path}>
              <th scope="row">
                <code>{one.path || "the whole"}</code>
              </th>
              <td>
                {"a" in one ? (
                  <OneValue value={one.a} kind="minus" />
                ) : (
                  <span className="muted">nothing</span>
                )}
              </td>
              <td>
                {"b" in one ? <OneValue value={one.b} kind="plus" /> : <span className="muted">nothing</span>}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {places.places.length > most && (
        <button type="button" className="link" onClick={() => setMost(most + 200)}>
          {plural(places.places.length - most, "more place")}
        </button>
      )}
      {places.count > places.places.length && (
        <p className="muted">
          {plural(places.count - places.places.length, "more difference")} that are not listed
        </p>
      )}
    </div>
  );
}

function OneValue({ value, kind }: { value: unknown; kind: string }) {
  return value !== null && typeof value === "object" ? (
    <Tree value={value} />
  ) : (
    <code className={kind}>{brief(value, 2000)}</code>
  );
}
