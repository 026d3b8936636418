import { memo } from "react";
import { useOf } from "../api/source";
import { type Line, pathOf } from "./layout";
import { flowOf } from "./standing";

const HEADS = ["waiting", "live", "dead", "failed", "near"] as const;

/** Arrows from near: what each carries by its stroke; its port and input in words. */
export function Arrows({ lines, near }: { lines: readonly Line[]; near: string | null }) {
  return (
    <svg className="arrows" width="1" height="1" aria-hidden="true">
      <defs>
        {HEADS.map((flow) => (
          <marker key={flow} id={`head-${flow}`} className={`head flow-${flow}`} viewBox="0 0 8 8" refX="7" refY="4" markerUnits="userSpaceOnUse" markerWidth="10" markerHeight="10" orient="auto-start-reverse">
            <path d="M0.5 0.8L7 4L0.5 7.2z" />
          </marker>
        ))}
      </defs>
      {lines.map((line) => <Arrow key={line.key} line={line} near={near !== null && (line.fromKey === near || line.toKey === near)} />)}
    </svg>
  );
}

const Arrow = memo(function Arrow({ line, near }: { line: Line; near: boolean }) {
  const flow = useOf((source) => flowOf(line, source.node(line.source)));
  const at = labelAt(line);
  return (
    <g className={`arrow flow-${flow}${line.back ? " back" : ""}${near ? " near" : ""}`}>
      <path d={pathOf(line)} markerEnd={`url(#head-${near ? "near" : flow})`} />
      {line.label && <text x={at.x} y={at.y} textAnchor={at.end ? "end" : "start"}>{line.label}</text>}
    </g>
  );
});

/** Beside its beginning, where it is told apart from its neighbours. */
function labelAt(line: Line): { x: number; y: number; end: boolean } {
  const [first, second] = line.points;
  if (first === undefined || second === undefined) return { x: 0, y: 0, end: false };
  const down = Math.abs(second.y - first.y) > Math.abs(second.x - first.x);
  const end = !down && second.x < first.x;
  return { x: first.x + (end ? -5 : 5), y: first.y + (down ? 13 : -4), end };
}
