import { useEffect, useMemo, useRef, useState } from "react";
import { get } from "../api/client";
import type { Drawn, Page, Summary } from "../api/types";
import { StatusIcon } from "../common/status";
import { Dialog } from "../common/ui";
import { labelOf } from "../live/labels";
import { go, link, setQuery } from "./route";
import { score, WHOLE } from "./score";

export interface Command {
  title: string;
  /** Shown at its right: a key, an id. */
  hint?: string;
  /** What it is found by as well. */
  also?: string;
  act: () => void;
}

const layers: { current: readonly Command[] }[] = [];

/** What the palette offers while this component is there. */
export function useCommands(commands: readonly Command[]): void {
  const layer = useRef(commands);
  layer.current = commands;
  useEffect(() => {
    layers.push(layer);
    return () => {
      layers.splice(layers.indexOf(layer), 1);
    };
  }, []);
}

/** To each node of a diagram, by its label or its id. */
export function nodeCommands(drawn: Drawn | null): Command[] {
  return (drawn?.nodes ?? []).map((node) => {
    const { id, type } = node;
    const label = labelOf(node);
    const act = () => setQuery({ node: id });
    return label === null ? { title: id, hint: type, act } : { title: label, hint: id, also: id, act };
  });
}

const SHOWN = 40;

/** Ctrl+K: commands, nodes of this execution, other executions. */
export function Palette({ close }: { close: () => void }) {
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  const [found, setFound] = useState<Summary[]>([]);
  const list = useRef<HTMLDivElement>(null);
  const commands = useMemo(() => layers.toReversed().flatMap((layer) => layer.current), []);
  const asked = text.trim().toLowerCase();
  const [shown, whole] = useMemo((): [Command[], number] => {
    if (asked === "") return [commands.slice(0, SHOWN), SHOWN];
    const scored = commands
      .map((command) => [score(command.also ? `${command.title} ${command.also}` : command.title, asked), command] as const)
      .filter((pair): pair is [number, Command] => pair[0] !== null)
      .sort(([a], [b]) => b - a)
      .slice(0, SHOWN);
    return [scored.map(([, command]) => command), scored.filter(([n]) => n > WHOLE).length];
  }, [commands, asked]);

  useEffect(() => {
    const abort = new AbortController();
    const timer = setTimeout(() => {
      get<Page<Summary>>("executions", { text: asked, limit: 8 }, abort.signal)
        .then((page) => setFound(page.items))
        .catch(() => undefined); // then there are the commands
    }, 150);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [asked]);

  const told = shown.map((command) => ({ key: `c${command.title}${command.hint ?? ""}`, ...command, status: null }));
  // an execution of that name goes before commands that only have its letters
  const rows = [
    ...told.slice(0, whole),
    ...found.map((one) => ({
      key: one.id,
      title: one.name || one.id,
      hint: one.id,
      status: one.status,
      act: () => go(link(["executions", one.id])),
    })),
    ...told.slice(whole),
  ];
  const chosen = Math.min(at, rows.length - 1);
  useEffect(() => {
    list.current?.children[chosen]?.scrollIntoView({ block: "nearest" });
  }, [chosen]);
  const act = (k: number) => {
    close();
    rows[k]?.act();
  };
  return (
    <Dialog title="Go to" close={close}>
      <input
        className="palette-text"
        autoFocus
        role="combobox"
        aria-expanded="true"
        aria-controls="palette-list"
        aria-activedescendant={rows[chosen] ? `palette-${chosen}` : undefined}
        aria-label="Command, node or execution"
        placeholder="Command, node or execution"
        value={text}
        onChange={(event) => {
          setText(event.target.value);
          setAt(0);
        }}
        onKeyDown={(event) => {
          if (event.key === "ArrowDown") setAt(Math.min(chosen + 1, rows.length - 1));
          else if (event.key === "ArrowUp") setAt(Math.max(chosen - 1, 0));
          else if (event.key === "Enter") act(chosen);
          else return;
          event.preventDefault();
        }}
      />
      <div id="palette-list" role="listbox" className="palette-list" ref={list} aria-label="Found">
        {rows.map((row, k) => (
          // biome-ignore lint/a11y/useKeyWithClickEvents: the field above has the keys
          <div
            key={row.key}
            id={`palette-${k}`}
            role="option"
            aria-selected={k === chosen}
            tabIndex={-1}
            onMouseMove={() => setAt(k)}
            onClick={() => act(k)}
          >
            {row.status !== null && <StatusIcon status={row.status} />}
            <span className="title">{row.title}</span>
            {row.hint && <span className="hint mono">{row.hint}</span>}
          </div>
        ))}
        {rows.length === 0 && <div className="muted">Nothing by that name.</div>}
      </div>
    </Dialog>
  );
}
