// What a node has to do with others: who is before and after it, and what it was made from.

import { useNode } from "../api/source";
import { StatusIcon } from "../common/status";
import { Copy } from "../common/ui";
import { useDrawn } from "../live/drawn";
import { parentOf } from "../live/paths";
import { select } from "../table/steps";
import { Tree } from "../values/Tree";
import { Section } from "./Section";
import type { Attempt, NodeDetail } from "./types";

export function Neighbours({ name, paths }: { name: string; paths: readonly string[] }) {
  if (paths.length === 0) return null;
  return (
    <p className="neighbours">
      <span className="muted">{name}</span>
      {paths.map((path) => (
        <Neighbour key={path} path={path} />
      ))}
    </p>
  );
}

function Neighbour({ path }: { path: string }) {
  const view = useNode(path);
  return (
    <button type="button" className="link" onClick={() => select(path, false)}>
      {/* of what is in a closed group nothing is heard */}
      {(view !== undefined || parentOf(path) === null) && <StatusIcon status={view?.status ?? "pending"} size={12} />} {path}
    </button>
  );
}

export function Lineage({ detail, attempt }: { detail: NodeDetail; attempt: Attempt | null }) {
  if (!detail.lineage) return <p className="muted">None is recorded.</p>;
  return (
    <>
      <p>
        <Copy text={detail.lineage} />
      </p>
      <p className="muted">
        {attempt?.kept === false
          ? "The diagram is another now: the node, or something before it, was changed since. A resume runs it again."
          : attempt?.kept
            ? "The diagram is the same as when this was recorded: a resume keeps it."
            : "It names the node's spec, its code, and all that is before it. A resume keeps what has the same lineage."}
      </p>
    </>
  );
}

/** A node that nothing has happened to: what its diagram says of it. */
export function Unreached({ path }: { path: string }) {
  const drawn = useDrawn();
  const node = drawn?.nodes.find((one) => one.id === path);
  const arrows = drawn?.arrows ?? [];
  const missing = drawn !== null && node === undefined && parentOf(path) === null;
  if (missing) return <p className="muted">The diagram has no node of that name.</p>;
  const unique = (paths: string[]) => [...new Set(paths)];
  return (
    <>
      <p className="muted">
        Nothing has happened to it: what is before it has not ended, or the execution ended first.
      </p>
      <Section title="Neighbours" open>
        <Neighbours
          name="after"
          paths={unique(arrows.filter((one) => one.target === path).map((one) => one.source))}
        />
        <Neighbours
          name="before"
          paths={unique(arrows.filter((one) => one.source === path).map((one) => one.target))}
        />
      </Section>
      {node?.properties && Object.keys(node.properties).length > 0 && (
        <Section title="Properties" open>
          <Tree value={node.properties} />
        </Section>
      )}
    </>
  );
}
