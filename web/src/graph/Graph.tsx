import "@xyflow/react/dist/base.css";
import "./graph.css";
import {
  type Node, type NodeProps, ReactFlow, ReactFlowProvider, useReactFlow, useStore, ViewportPortal,
} from "@xyflow/react";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { recorded } from "../api/recorded";
import { useOf, useSource } from "../api/source";
import type { Drawn, Fault } from "../api/types";
import { useKeys } from "../app/keys";
import { setQuery, useQuery } from "../app/route";
import { onTheme } from "../app/theme";
import { count } from "../common/format";
import { groupsAround } from "../live/paths";
import { useOpenGroups } from "../table/open";
import { useStepKeys } from "../table/steps";
import { Arrows } from "./Arrows";
import { type BoxProps, BoxView } from "./Boxes";
import { warm } from "./elk";
import { type Box, type Layout, layout as lay } from "./layout";
import { Minimap } from "./Minimap";
import { paint } from "./paint";
import { CELLS_MAX, scene } from "./scene";
import { around, type Rect, Space } from "./space";
import { ACTIVE, statusOf } from "./standing";

warm();

/** Nearer than this nodes are drawn one by one, from farther off on a canvas. */
const NEAR_ZOOM = 0.62;
/** One that is looked for is brought as near as this. */
const READ_ZOOM = 0.9;
const NEAR_BOXES_MAX = 600;
const LINES_MAX = 400;
const ZOOM_MIN = 0.01;
const ZOOM_MAX = 1.6;
const MARGIN = 0.35;
const MOVE_MS = 250;
const NARROW_PX = 640;
const ABOVE_ARROWS = 100; // they are at 50, see graph.css; frames lie below
const EDGE_PX = 20;
/** So many boxes, or what is up to so much larger than its place, is shown in full size at first, not all of it. */
const FEW_BOXES = 12;
const LARGER = 1.6;
/** Some more begin so small that their names are still read; many begin as a whole. */
const MANY_BOXES = 60;
const MANY_ZOOM = 0.85;
/** When elk takes longer than this a draft in layers is shown. */
const DRAFT_MS = 120;
const NEARLY = 1.03;
const TOOLS_PX = 34;
const FOLLOW_MS = 700;

type BoxNode = Node<BoxProps & Record<string, unknown>, "box">;
const TYPES = { box: ({ data }: NodeProps<BoxNode>) => <BoxView {...data} /> };

export function Graph({ drawn, faults }: { drawn: Drawn; faults?: readonly Fault[] }) {
  const [down, setDown] = useState<boolean | null>(null);
  const place = useCallback((element: HTMLDivElement | null) => {
    if (element !== null) setDown(element.clientWidth < NARROW_PX && element.clientWidth < element.clientHeight);
  }, []);
  const { layout, busy, draft, cut } = useLayout(drawn, down);
  if (layout === null) {
    return <div className="graph loading" role="status" ref={place}>{busy ? `Laying out ${count(drawn.nodes.length)} nodes …` : ""}</div>;
  }
  return (
    <ReactFlowProvider>
      <Drawing layout={layout} drawn={drawn} faults={faults ?? []} busy={busy} draft={draft} cut={cut} />
    </ReactFlowProvider>
  );
}

/** The layout of what is open; the one before stays until the next is there. While elk loads there is a draft. */
function useLayout(drawn: Drawn, down: boolean | null): { layout: Layout | null; busy: boolean; draft: boolean; cut: boolean } {
  const { open } = useOpenGroups();
  const [layout, setLayout] = useState<Layout | null>(null);
  const [busy, setBusy] = useState(true);
  const [draft, setDraft] = useState(false);
  const none = useRef(true);
  const most = useRef(new Map<string, number>());
  const maps = useMemo(() => drawn.groups.length > 0, [drawn]);
  // The sizes of open maps, as one text: only they change the layout while it runs.
  const totals = useOf((source) => {
    if (!maps || open.size === 0 && !open.has("*")) return "";
    const all = open.size > 0 ? [...open] : drawn.groups.map((group) => group.id);
    for (const path of all) {
      const group = source.node(path)?.group;
      if (group?.kind === "map") most.current.set(path, Math.max(group.total, most.current.get(path) ?? 0));
    }
    return [...most.current].map(([path, n]) => `${path}=${n}`).join();
  });
  const seed = useMemo(() => `${drawn.hash ?? ""} ${drawn.name} ${drawn.nodes.length} ${JSON.stringify(drawn.arrows).length}`, [drawn]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: `totals` stands for `most`
  useEffect(() => {
    if (down === null) return;
    let over = false;
    setBusy(true);
    const root = scene(drawn, { open, total: (path) => most.current.get(path) ?? 0 });
    const take = (made: Layout, first: boolean) => {
      if (over) return;
      none.current = false;
      setLayout(made);
      setDraft(first);
      setBusy(first);
    };
    lay(root, seed, down).then((made) => {
      clearTimeout(timer);
      take(made, false);
    });
    const timer = !none.current ? undefined : setTimeout(() => {
      lay(root, seed, down, 0).then((made) => none.current && take(made, true));
    }, DRAFT_MS);
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }, [drawn, open, totals, seed, down]);
  return { layout, busy, draft, cut: [...most.current.values()].some((n) => n > CELLS_MAX) };
}

function Drawing({ layout, drawn, faults, busy, draft, cut }: {
  layout: Layout;
  drawn: Drawn;
  faults: readonly Fault[];
  busy: boolean;
  draft: boolean;
  cut: boolean;
}) {
  const flow = useReactFlow();
  const view = useStore((state) => state.transform);
  const [x, y, zoom] = view;
  const w = useStore((state) => state.width);
  const h = useStore((state) => state.height);
  const source = useSource();
  const node = useQuery("node");
  const following = useQuery("follow") !== null;
  const { toggle: toggleKey } = useOpenGroups(useCallback(() => drawn.groups.map((group) => group.id), [drawn]));
  const boxes = useMemo(() => new Space(layout.boxes, (box) => box), [layout]);
  const lines = useMemo(() => new Space(layout.lines, (line) => around(line.points)), [layout]);
  const faultOf = useMemo(() => new Map(faults.filter((each) => each.node).map((each) => [each.node!, each])), [faults]);
  const selected = useMemo(() => boxFor(layout, node), [layout, node]);

  const seen = useSeen(x, y, zoom, w, h);
  const inSight = useMemo(() => boxes.within(seen), [boxes, seen]);
  const near = zoom >= NEAR_ZOOM && inSight.length <= NEAR_BOXES_MAX;
  const linesInSight = useMemo(() => {
    const found = lines.within(seen);
    if (!layout.coarse || found.length < LINES_MAX) return found;
    // those that only pass through tell nothing
    const here = new Set(inSight.map((box) => box.key));
    return found.filter((line) => here.has(line.fromKey) && here.has(line.toKey)
      || line.fromKey === selected?.key || line.toKey === selected?.key);
  }, [lines, seen, layout, inSight, selected]);

  const pick = useCallback((box: Box) => setQuery({ node: box.path.split("[]", 1)[0], iteration: null, attempt: null }), []);
  const toggle = useCallback((box: Box) => toggleKey(box.kind === "loop" ? box.key : box.path), [toggleKey]);
  const nodes = useMemo((): BoxNode[] => (near ? inSight.map((box) => ({
    id: box.key, type: "box", position: box, width: box.w, height: box.h, zIndex: box.frame ? box.depth : ABOVE_ARROWS,
    data: { box, selected: box === selected, toggle, fault: faultOf.get(box.path) ?? null },
    draggable: false, selectable: false, connectable: false, focusable: false,
  })) : []), [near, inSight, selected, toggle, faultOf]);

  const fitAll = useCallback((ms = MOVE_MS) => {
    const [right, bottom] = [w - 2 * EDGE_PX, h - 2 * EDGE_PX - TOOLS_PX];
    const to = Math.max(ZOOM_MIN, Math.min(1, right / layout.w, bottom / layout.h));
    flow.setViewport({
      x: EDGE_PX + (right - layout.w * to) / 2, y: EDGE_PX + (bottom - layout.h * to) / 2, zoom: to,
    }, { duration: ms });
  }, [flow, layout, w, h]);
  const center = useCallback((box: Box, ms = MOVE_MS) => {
    const at = flow.getZoom();
    flow.setCenter(box.x + box.w / 2, box.frame ? box.y + Math.min(box.h / 2, h / at / 2 - 20) : box.y + box.h / 2, { zoom: Math.max(at, READ_ZOOM), duration: ms });
  }, [flow, h]);
  const begin = useCallback(() => {
    const [right, bottom] = [w - 2 * EDGE_PX, h - 2 * EDGE_PX - TOOLS_PX];
    const larger = Math.max(layout.w / right, layout.h / bottom);
    const few = layout.boxes.length <= FEW_BOXES || larger <= LARGER;
    const zoom = few ? 1 : MANY_ZOOM;
    if (larger <= NEARLY || (!few && (layout.boxes.length > MANY_BOXES || larger * MANY_ZOOM <= NEARLY))) {
      fitAll(0);
      return;
    }
    const to = selected ?? layout.boxes.find((box) => !box.frame && ACTIVE.has(statusOf(source, box))) ?? null;
    const at = (whole: number, room: number, middle: number | null): number =>
      whole <= room ? EDGE_PX + (room - whole) / 2 : EDGE_PX + Math.min(0, Math.max(room - whole, room / 2 - (middle ?? 0)));
    flow.setViewport({
      x: at(layout.w * zoom, right, to && (to.x + to.w / 2) * zoom),
      y: at(layout.h * zoom, bottom, to && (to.y + to.h / 2) * zoom), zoom,
    });
  }, [flow, layout, selected, source, fitAll, w, h]);
  useFirstFit(w > 0 && h > 0, draft, begin, `${x} ${y} ${zoom}`);
  useCenterSelected(selected, { x, y, zoom, w, h }, center);
  useFollow(following, layout, { x, y, zoom, w, h }, center);

  const go = (dx: number, dy: number) => {
    const to = selected === null ? layout.boxes[0] : beside(layout.boxes, selected, dx, dy);
    if (to) pick(to);
  };
  const order = useMemo(() => [...new Set(layout.boxes.map((box) => box.path))], [layout]);
  useStepKeys(order, (path) => source.node(path)?.status === "failed" || faultOf.get(path)?.severity === "error");
  useKeys({
    ".": ["fit the graph", () => fitAll()],
    f: ["follow what runs", () => setQuery({ follow: following ? null : 1 }, true)],
    o: ["open or close the group", () => selected && selected.kind !== "node" && toggle(selected)],
    "+": ["nearer", () => flow.zoomIn({ duration: 120 })],
    "-": ["farther", () => flow.zoomOut({ duration: 120 })],
    ArrowRight: ["the box to the right", () => go(1, 0)],
    ArrowLeft: ["the box to the left", () => go(-1, 0)],
    ArrowDown: ["the box below", () => go(0, 1)],
    ArrowUp: ["the box above", () => go(0, -1)],
  });

  return (
    <div className="graph">
      {!near && <Far boxes={inSight} lines={linesInSight} view={{ x, y, zoom }} selected={selected?.key ?? null} room={`${w}x${h}`} />}
      <ReactFlow
        nodes={nodes}
        edges={[]}
        nodeTypes={TYPES}
        minZoom={ZOOM_MIN}
        maxZoom={ZOOM_MAX}
        nodesDraggable={false}
        nodesConnectable={false}
        nodesFocusable={false}
        elementsSelectable={false}
        disableKeyboardA11y
        deleteKeyCode={null}
        selectionKeyCode={null}
        zoomOnDoubleClick={false}
        proOptions={{ hideAttribution: true }}
        onNodeClick={(_, { data }) => pick(data.box)}
        onPaneClick={(event) => {
          const at = flow.screenToFlowPosition({ x: event.clientX, y: event.clientY });
          const box = near ? null : boxes.at(at.x, at.y);
          if (box !== null) pick(box);
          else if (node !== null) setQuery({ node: null, iteration: null, attempt: null });
        }}
      >
        {near && <ViewportPortal><Arrows lines={linesInSight} near={selected?.key ?? null} /></ViewportPortal>}
      </ReactFlow>
      <div className="graph-tools">
        <button type="button" aria-label="Nearer" title="Nearer (+)" onClick={() => flow.zoomIn({ duration: 120 })}>+</button>
        <button type="button" aria-label="Farther" title="Farther (-)" onClick={() => flow.zoomOut({ duration: 120 })}>−</button>
        <button type="button" title="Fit (.)" onClick={() => fitAll()}>Fit</button>
        {source.connection() !== "still" && recorded() === null && <button type="button" title="Follow what runs (f)" aria-pressed={following} onClick={() => setQuery({ follow: following ? null : 1 }, true)}>Follow</button>}
      </div>
      {busy && <div className="graph-note" role="status">Laying out …</div>}
      {!busy && (layout.coarse || cut) && (
        <div className="graph-note">
          {cut ? `Only the first ${count(CELLS_MAX)} items are drawn; the table has all` : "Laid out in layers"}
        </div>
      )}
      {(layout.w * zoom > w || layout.h * zoom > h || x < 0 || y < 0) && <Minimap layout={layout} source={source} view={{ x, y, zoom }} room={{ w, h }} to={(toX, toY) => flow.setCenter(toX, toY, { zoom: flow.getZoom() })} />}
    </div>
  );
}

/** The box of a path, or of the group around it that is closed. */
function boxFor(layout: Layout, path: string | null): Box | null {
  if (path === null) return null;
  const exact = layout.byKey.get(path);
  if (exact !== undefined) return exact;
  const loop = layout.boxes.find((box) => box.kind === "loop" && !box.frame && box.members.includes(path));
  if (loop !== undefined) return loop;
  for (const group of groupsAround(path).reverse()) {
    const box = boxFor(layout, group);
    if (box !== null) return box;
  }
  return null;
}

/** What is in sight with a margin; it changes only when the sight leaves it, or the zoom halves. */
function useSeen(x: number, y: number, zoom: number, w: number, h: number): Rect {
  const kept = useRef<{ rect: Rect; zoom: number } | null>(null);
  const exact = { x: -x / zoom, y: -y / zoom, w: w / zoom, h: h / zoom };
  const old = kept.current;
  const inside = old !== null && exact.x >= old.rect.x && exact.y >= old.rect.y
    && exact.x + exact.w <= old.rect.x + old.rect.w && exact.y + exact.h <= old.rect.y + old.rect.h
    && zoom < old.zoom * 1.6 && zoom >= NEAR_ZOOM === old.zoom >= NEAR_ZOOM;
  if (!inside) {
    kept.current = {
      zoom,
      rect: { x: exact.x - exact.w * MARGIN, y: exact.y - exact.h * MARGIN, w: exact.w * (1 + 2 * MARGIN), h: exact.h * (1 + 2 * MARGIN) },
    };
  }
  return kept.current!.rect;
}

/** At first, and once more when the draft was replaced, unless somebody has moved it meanwhile. */
function useFirstFit(ready: boolean, draft: boolean, begin: () => void, sight: string): void {
  const done = useRef<"no" | "draft" | "yes">("no");
  const begun = useRef<string | null>(null);
  const latest = useRef(sight);
  latest.current = sight;
  useEffect(() => {
    if (!ready || done.current === "yes" || (draft && done.current === "draft")) return;
    const moved = done.current === "draft" && begun.current !== null && begun.current !== latest.current;
    done.current = draft ? "draft" : "yes";
    if (moved) return;
    begin();
    const timer = setTimeout(() => {
      begun.current = latest.current;
    });
    return () => clearTimeout(timer);
  }, [ready, draft, begin]);
}

interface Sight {
  x: number;
  y: number;
  zoom: number;
  w: number;
  h: number;
}

function inMiddle(box: Box, { x, y, zoom, w, h }: Sight): boolean {
  const [left, top] = [box.x * zoom + x, box.y * zoom + y];
  return left > 0 && top > 0 && left + Math.min(box.w * zoom, w) <= w && top + Math.min(box.h * zoom, h / 2) <= h;
}

/** Brings what was selected elsewhere, or by a key, into sight. */
function useCenterSelected(selected: Box | null, sight: Sight, center: (box: Box) => void): void {
  const latest = useRef(sight);
  latest.current = sight;
  const key = selected?.key ?? null;
  // biome-ignore lint/correctness/useExhaustiveDependencies: when another one is selected
  useEffect(() => {
    const timer = setTimeout(() => {
      if (selected !== null && latest.current.w > 0 && !inMiddle(selected, latest.current)) center(selected);
    }, 60); // the inspector takes its room first
    return () => clearTimeout(timer);
  }, [key]);
}

/** Goes to what began last, when it is out of sight. */
function useFollow(on: boolean, layout: Layout, sight: Sight, center: (box: Box, ms: number) => void): void {
  const source = useSource();
  const latest = useRef(sight);
  latest.current = sight;
  useEffect(() => {
    if (!on) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const look = () => {
      timer = undefined;
      let [found, last]: [Box | null, number] = [null, 0];
      for (const box of layout.boxes) {
        if (box.frame) continue;
        const node = source.node(box.path);
        if (node && ACTIVE.has(node.status) && (node.started_at ?? 0) > last) [found, last] = [box, node.started_at ?? 0];
      }
      if (found !== null && (!inMiddle(found, latest.current) || latest.current.zoom < NEAR_ZOOM)) center(found, FOLLOW_MS / 2);
    };
    const end = source.onNodes(() => {
      timer ??= setTimeout(look, FOLLOW_MS);
    });
    look();
    return () => {
      clearTimeout(timer);
      end();
    };
  }, [on, layout, source, center]);
}

/** The nearest one in a direction; what is aslant counts as farther. */
function beside(boxes: readonly Box[], from: Box, dx: number, dy: number): Box | null {
  const [x, y] = [from.x + from.w / 2, from.y + from.h / 2];
  let [best, least]: [Box | null, number] = [null, Infinity];
  for (const box of boxes) {
    if (box === from) continue;
    const [toX, toY] = [box.x + box.w / 2 - x, box.y + box.h / 2 - y];
    const along = toX * dx + toY * dy;
    const aside = Math.abs(toX * dy) + Math.abs(toY * dx);
    if (along > 8 && along + aside * 2.5 < least) [best, least] = [box, along + aside * 2.5];
  }
  return best;
}

/** The canvas below the pane, while one is far off. */
function Far({ boxes, lines, view, selected, room }: {
  boxes: readonly Box[];
  lines: Layout["lines"];
  view: { x: number; y: number; zoom: number };
  selected: string | null;
  room: string;
}) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const source = useSource();
  const latest = useRef<() => void>(() => undefined);
  latest.current = () => {
    if (canvas.current) paint(canvas.current, { boxes, lines, source, view, selected });
  };
  // biome-ignore lint/correctness/useExhaustiveDependencies: all that is drawn
  useEffect(() => {
    const frame = requestAnimationFrame(() => latest.current());
    return () => cancelAnimationFrame(frame);
  }, [boxes, lines, view.x, view.y, view.zoom, selected, source, room]);
  useEffect(() => {
    let frame = 0;
    const soon = () => {
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        latest.current();
      });
    };
    const ends = [source.onNodes(soon), onTheme(soon)];
    return () => {
      cancelAnimationFrame(frame);
      for (const end of ends) end();
    };
  }, [source]);
  return <canvas className="far" ref={canvas} />;
}
