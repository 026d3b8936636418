import { memo } from "react";
import { useNode, useOf } from "../api/source";
import type { Fault, NodeStatus, NodeView } from "../api/types";
import { count, plural, seconds, ticking } from "../common/format";
import { CountList, Progress, StatusIcon } from "../common/status";
import { useClock } from "../live/clock";
import type { Box } from "./layout";
import { countsOf, statusOf } from "./standing";

export interface BoxProps {
  box: Box;
  selected: boolean;
  toggle: (box: Box) => void;
  fault: Fault | null;
}

/** A node from near: its mark, its name, its type, how it stands in words. */
export const BoxView = memo(function BoxView(props: BoxProps) {
  const { box } = props;
  if (box.kind === "loop") return <LoopBox {...props} />;
  if (box.kind === "item") return <ItemBox {...props} />;
  if (box.kind !== "node") return <GroupBox {...props} />;
  return <NodeBox {...props} />;
});

function Shell({ box, status, selected, fault, says, children }: BoxProps & {
  status: NodeStatus;
  says: string;
  children: React.ReactNode;
}) {
  const classes = ["box", `box-${box.kind}`, `on-${status}`, selected && "selected", box.frame && "frame", fault && `bad-${fault.severity}`];
  return (
    <div
      className={classes.filter(Boolean).join(" ")}
      style={{ width: box.w, height: box.h }}
      role="group"
      aria-label={`${box.label}: ${says}`}
      aria-current={selected || undefined}
      data-path={box.key}
    >
      {children}
    </div>
  );
}

function NodeBox(props: BoxProps) {
  const { box, fault } = props;
  const node = useNode(box.path);
  const status = node?.status ?? "pending";
  return (
    <Shell {...props} status={status} says={status}>
      <StatusIcon status={status} size={18} />
      <div className="texts">
        <div className="name" title={box.label}>{box.label}</div>
        <div className="about">
          {fault ? <span className="says bad" title={fault.message}>{fault.severity}</span> : node && <Says node={node} />}
          <span className="kind">{box.type}</span>
        </div>
      </div>
    </Shell>
  );
}

/** `completed 1.2 s`, `running 4 s`, `retrying in 3 s`. */
function Says({ node }: { node: NodeView }) {
  const stale = useOf((source) => source.execution()?.status === "stale"); // then nobody performs it any more
  const ticks = !stale && node.status === "running" || (node.status === "retrying" && node.wake_at != null);
  const now = useClock(1, ticks);
  const tries = (node.attempt ?? 1) > 1 ? ` ·${node.attempt}` : "";
  const turn = node.iteration && node.iteration !== "1" ? ` #${node.iteration}` : "";
  let text: string = node.status;
  if (node.started_at != null && node.ended_at != null && node.status !== "skipped") text += ` ${seconds(node.ended_at - node.started_at)}`;
  else if (stale && node.status === "running") text = "was running";
  else if (node.status === "running" && node.started_at != null) text += ` ${ticking(now - node.started_at)}`;
  else if (node.status === "retrying" && node.wake_at != null && node.wake_at > now) text += ` in ${ticking(node.wake_at - now)}`;
  return (
    <span className={`says status-${node.status}`} title={tries || turn ? `${turn && `iteration ${node.iteration}`} ${tries && `attempt ${node.attempt}`}`.trim() : undefined}>
      {text}{turn}{tries}{node.status === "running" && node.steps ? `, ${plural(node.steps, "step")}` : ""}
    </span>
  );
}

function ItemBox(props: BoxProps) {
  const { box } = props;
  const status = useNode(box.path)?.status ?? "pending";
  return (
    <Shell {...props} status={status} says={status}>
      <StatusIcon status={status} size={13} />
      <span className="name">{box.label}</span>
    </Shell>
  );
}

function Opener({ box, toggle }: Pick<BoxProps, "box" | "toggle">) {
  const word = box.frame ? "Close" : "Open";
  return (
    <button
      type="button"
      className="opener"
      aria-label={`${word} ${box.label}`}
      title={`${word} (o)`}
      onClick={(event) => {
        event.stopPropagation();
        toggle(box);
      }}
    >
      {box.frame ? "−" : "+"}
    </button>
  );
}

const WORD: Record<string, string> = { map: "map", sub: "sub-diagram", loop: "loop" };

function GroupBox(props: BoxProps) {
  const { box } = props;
  const node = useNode(box.path);
  const status = node?.status ?? "pending";
  const group = node?.group;
  // of a map of sub-diagrams the counts are of all nodes in it, the total is of its items
  const all = group ? Math.max(group.total, Object.values(group.counts).reduce((sum, n) => sum + n, 0)) : 0;
  return (
    <Shell {...props} status={status} says={`${WORD[box.kind]}, ${status}`}>
      <div className="top">
        <StatusIcon status={status} size={18} />
        <div className="texts">
          <div className="name" title={box.label}>{box.label}</div>
          <div className="about">
            {node && <Says node={node} />}
            <span className="kind">{WORD[box.kind]}</span>
          </div>
        </div>
        {(box.frame || box.deep || group) && <Opener {...props} />}
      </div>
      {!box.frame && (
        <div className="inside">
          {all > 0 ? <Progress counts={group?.counts ?? {}} total={all} /> : <span className="stack" />}
          <span className="of">{group && `${count(done(group.counts))} / ${count(all)}`}</span>
        </div>
      )}
    </Shell>
  );
}

function done(counts: Partial<Record<NodeStatus, number>>): number {
  return (counts.completed ?? 0) + (counts.failed ?? 0) + (counts.skipped ?? 0) + (counts.cancelled ?? 0);
}

function LoopBox(props: BoxProps) {
  const { box } = props;
  const status = useOf((from) => statusOf(from, box));
  const turn = useOf((from) => from.node(box.path)?.iteration ?? "");
  const key = useOf((from) => JSON.stringify(countsOf(from, box.members)));
  const counts = JSON.parse(key) as ReturnType<typeof countsOf>;
  return (
    <Shell {...props} status={status} says={`loop, ${status}`}>
      <div className="top">
        <StatusIcon status={status} size={18} />
        <div className="texts">
          <div className="name">↻ {box.label}</div>
          <div className="about">
            {turn !== "" && <span className={`says status-${status}`}>{status}, turn {turn}</span>}
            <span className="kind">loop of {plural(box.members.length, "node")}</span>
          </div>
        </div>
        <Opener {...props} />
      </div>
      {!box.frame && <div className="inside">{turn !== "" && <CountList counts={counts} />}</div>}
    </Shell>
  );
}
