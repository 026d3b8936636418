import { useState } from "react";
import { digitsOf } from "../api/exact";
import type { Json } from "../api/types";
import { count, plural, size } from "../common/format";
import { beside, fileOf, leftOut } from "./kinds";

/** Items of a list or map that are drawn at a time. */
const PAGE = 100;
const LONG = 400;
/** Small values are open from the beginning. */
const OPEN_ITEMS = 12;

/** JSON as a tree whose branches are drawn when they are opened. */
export function Tree({ value }: { value: Json }) {
  return (
    <div className="tree">
      <Branch name={null} value={value} open={entries(value).length <= OPEN_ITEMS} depth={0} />
    </div>
  );
}

function entries(value: Json): [string | number, Json][] {
  if (Array.isArray(value)) return value.map((one, n) => [n, one]);
  return value !== null && typeof value === "object" ? Object.entries(value) : [];
}

function Branch({
  name,
  value,
  open: first,
  depth,
}: {
  name: string | number | null;
  value: Json;
  open: boolean;
  depth: number;
}) {
  const [open, setOpen] = useState(first);
  const [shown, setShown] = useState(PAGE);
  const key = name === null ? null : <span className="key">{name}</span>;
  const told = special(value);
  if (told !== null)
    return (
      <div className="leaf">
        {key}
        {told}
      </div>
    );
  if (value === null || typeof value !== "object")
    return (
      <div className="leaf">
        {key}
        <Leaf value={value} />
      </div>
    );
  const list = Array.isArray(value);
  const inside = entries(value);
  const more = leftOut(value);
  if (more > 0) inside.pop();
  const whole = count(inside.length + more);
  if (inside.length === 0)
    return (
      <div className="leaf">
        {key}
        <span className="muted">{list ? "[ ]" : "{ }"}</span>
      </div>
    );
  return (
    <div>
      <button type="button" className="branch" aria-expanded={open} onClick={() => setOpen(!open)}>
        <span className="muted twist">{open ? "▾" : "▸"}</span>
        {key}
        <span className="muted">{list ? `[${whole}]` : `{${whole}}`}</span>
        {!open && <span className="muted cut-text hint">{hint(value)}</span>}
      </button>
      {open && (
        <div className="inside">
          {inside.slice(0, shown).map(([at, one]) => (
            <Branch
              key={at}
              name={at}
              value={one}
              open={depth < 1 && entries(one).length <= OPEN_ITEMS && inside.length <= OPEN_ITEMS}
              depth={depth + 1}
            />
          ))}
          {inside.length > shown && (
            <button type="button" className="link" onClick={() => setShown(shown + 10 * PAGE)}>
              {plural(inside.length - shown, "more item")}
            </button>
          )}
          {more > 0 && shown >= inside.length && <div className="leaf muted">… {count(more)} more</div>}
        </div>
      )}
    </div>
  );
}

/** What stands for something that isn't here. */
function special(value: Json) {
  if (value === null || typeof value !== "object") return null;
  const file = fileOf(value);
  if (file)
    return (
      <a href={beside(file.url)} target="_blank" rel="noreferrer">
        {file.name} <span className="muted">{size(file.size)}</span>
      </a>
    );
  const digits = digitsOf(value);
  if (digits !== null) return <span className="v-number">{digits}</span>;
  if (Object.keys(value).length !== 1) return null;
  if (typeof value.$more === "number") return <span className="muted">… {count(value.$more)} more</span>;
  if (typeof value.$large === "number")
    return <span className="muted">{size(value.$large)}, too large to show here</span>;
  if (typeof value.$lost === "string")
    return <span className="status-failed">its blob is lost: {value.$lost}</span>;
  if (typeof value.$unreadable === "string")
    return <span className="status-failed">can't be read: {value.$unreadable}</span>;
  return null;
}

function Leaf({ value }: { value: Json }) {
  const [whole, setWhole] = useState(false);
  if (typeof value !== "string")
    return <span className={`v-${value === null ? "null" : typeof value}`}>{String(value)}</span>;
  const long = value.length > LONG && !whole;
  return (
    <span className="v-string">
      {JSON.stringify(long ? value.slice(0, LONG) : value)}
      {long && (
        <button type="button" className="link" onClick={() => setWhole(true)}>
          … {count(value.length)} characters
        </button>
      )}
    </span>
  );
}

const HINT = 60;

/** What is inside, in a few characters. */
function hint(value: Json): string {
  const words: string[] = [];
  let length = 0;
  for (const [key, one] of entries(value).slice(0, 8)) {
    const text =
      one === null || typeof one !== "object" || digitsOf(one) !== null
        ? (JSON.stringify(one)?.slice(0, 30) ?? "")
        : Array.isArray(one)
          ? "[…]"
          : "{…}";
    const word = Array.isArray(value) ? text : `${key}: ${text}`;
    words.push(word);
    length += word.length;
    if (length > HINT) break;
  }
  return words.join(", ");
}
