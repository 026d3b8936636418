import { describe, expect, it } from "vitest";
import type { Source } from "../api/source";
import type { Drawn, DrawnArrow, NodeView } from "../api/types";
import { stillSource } from "../diagrams/still";
import { layered, layersOf } from "./grid";
import { layout, pathOf } from "./layout";
import { isGroup, scene } from "./scene";
import { Space } from "./space";
import { flowOf, statusOf, sumUp } from "./standing";

function drawn(nodes: string, arrows: string, groups: Drawn["groups"] = []): Drawn {
  return {
    name: "d",
    inputs: {},
    nodes: nodes.split(" ").map((id) => ({ id, type: "code_job" })),
    arrows: arrows === "" ? [] : arrows.split(" ").map((text): DrawnArrow => {
      const [source = "", target = ""] = text.split(/[>!]/);
      return { source, target, port: "default", back: text.includes("!") };
    }),
    groups,
  };
}

const ask = (open: string[] = [], totals: Record<string, number> = {}) => ({
  open: new Set(open), total: (path: string) => totals[path] ?? 0,
});

describe("the scene", () => {
  const loop = drawn("a b c d", "a>b b>c c!b c>d", [{ id: "b", kind: "loop", nodes: ["b", "c"] }]);

  it("draws a closed loop as one, with the arrows into and out of it", () => {
    const root = scene(loop, ask());
    expect(root.items.map((item) => item.key)).toEqual(["a", "~b", "d"]);
    expect(root.arrows.map(({ fromKey, toKey }) => `${fromKey} ${toKey}`)).toEqual(["a ~b", "~b d"]);
    expect(root.items[1]?.members).toEqual(["b", "c"]);
  });

  it("draws what is in an open loop, and arrows to the very nodes", () => {
    const root = scene(loop, ask(["~b"]));
    const inner = root.items[1]?.inner;
    expect(inner?.items.map((item) => item.key)).toEqual(["b", "c"]);
    expect(inner?.arrows.map(({ fromKey, toKey, arrow }) => `${fromKey} ${toKey} ${arrow.back}`)).toEqual(["b c false", "c b true"]);
    expect(root.arrows.map(({ from, to, fromKey, toKey }) => `${from}-${to} ${fromKey} ${toKey}`)).toEqual(["0-1 a b", "1-2 c d"]);
  });

  it("keeps a loop within a loop inside of it", () => {
    const nested = drawn("a b c d e", "a>b b>c c!c c>d d!b d>e", [
      { id: "c", kind: "loop", nodes: ["c"] }, { id: "b", kind: "loop", nodes: ["b", "c", "d"] },
    ]);
    expect(scene(nested, ask(["~c"])).items.map((item) => item.key)).toEqual(["a", "~b", "e"]);
    const outer = scene(nested, ask(["~b"])).items[1]?.inner;
    expect(outer?.items.map((item) => item.key).sort()).toEqual(["b", "d", "~c"]);
    const both = scene(nested, ask(["~b", "~c"])).items.find((item) => item.key === "~b")?.inner;
    expect(both?.items.find((item) => item.key === "~c")?.inner?.arrows).toHaveLength(1);
  });

  it("opens maps as grids, and their items as diagrams", () => {
    const inner = drawn("x y", "x>y");
    const map = drawn("m", "", [{ id: "m", kind: "map", drawn: inner }]);
    const item = scene(map, ask(["m", "m[3]", "m[12]"], { m: 5 })).items[0];
    expect(item?.inner?.grid).toEqual({ path: "m", total: 5 });
    expect(item?.inner?.items.map((each) => each.path)).toEqual(["m[3]"]); // there is no twelfth
    expect(item?.inner?.items[0]?.inner?.items.map((each) => each.path)).toEqual(["m[3]/x", "m[3]/y"]);
    const before = scene(map, ask(["m"])).items[0]?.inner;
    expect(before?.items.map((each) => each.path)).toEqual(["m[]/x", "m[]/y"]);
  });

  it("tells the server's groups from those of the drawing", () => {
    expect(["m", "m[3]", "~b", "sub/~b"].map(isGroup)).toEqual([true, true, false, false]);
  });

  it("leaves out arrows to nodes that are not there", () => {
    expect(scene(drawn("a", "a>gone"), ask()).arrows).toEqual([]);
  });
});

describe("layers", () => {
  const link = (from: number, to: number, back = false) => ({ from, to, back });

  it("puts each after all that it waits for", () => {
    expect(layersOf(4, [link(0, 1), link(1, 2), link(0, 2), link(2, 3)])).toEqual([[0], [1], [2], [3]]);
  });

  it("ends on cycles that nobody declared", () => {
    expect(layersOf(3, [link(0, 1), link(1, 2), link(2, 0)]).flat().sort()).toEqual([0, 1, 2]);
  });

  it("lays ten thousand out without overlaps, in a shape that fits a screen", () => {
    const sizes = Array.from({ length: 10_000 }, () => ({ w: 200, h: 46 }));
    for (const links of [
      [], sizes.slice(1).map((_, k) => link(k, k + 1)), sizes.slice(1).map((_, k) => link(0, k + 1)),
      sizes.slice(500).map((_, k) => link(k, k + 500)),
    ]) {
      const { spots, w, h } = layered(sizes, links);
      expect(w / h).toBeGreaterThan(0.7);
      expect(w / h).toBeLessThan(4);
      expect(new Set(spots.map(({ x, y }) => `${Math.round(x)} ${Math.round(y)}`)).size).toBe(10_000);
      const space = new Space(spots, ({ x, y }) => ({ x, y, w: 200, h: 46 }));
      for (const spot of spots.filter((_, k) => k % 97 === 0)) {
        expect(space.within({ x: spot.x, y: spot.y, w: 200, h: 46 })).toEqual([spot]);
      }
    }
  });
});

describe("the layout", () => {
  it("gives boxes and lines, frames around what is open", async () => {
    const map = drawn("a m b", "a>m m>b", [{ id: "m", kind: "map" }]);
    const made = await layout(scene(map, ask(["m"], { m: 30 })), "t"); // no worker here: layers
    const frame = made.byKey.get("m")!;
    const cells = made.boxes.filter((box) => box.kind === "item");
    expect(frame.frame).toBe(true);
    expect(cells).toHaveLength(30);
    for (const cell of cells) {
      expect(cell.x >= frame.x && cell.y >= frame.y && cell.x + cell.w <= frame.x + frame.w && cell.y + cell.h <= frame.y + frame.h).toBe(true);
    }
    expect(made.lines).toHaveLength(2);
    expect(made.lines.every((line) => pathOf(line).startsWith("M"))).toBe(true);
  });
});

describe("how it stands", () => {
  const nodes: Record<string, NodeView> = {
    b: { id: "b", status: "completed" }, c: { id: "c", status: "running" }, f: { id: "f", status: "completed", port: "false" },
  };
  const source: Source = { ...stillSource("x"), node: (path) => nodes[path] };

  it("sums a closed loop up", () => {
    expect(statusOf(source, { path: "b", kind: "loop", members: ["b", "c"] })).toBe("running");
    expect(sumUp({ completed: 2, pending: 1 })).toBe("running");
    expect(sumUp({ completed: 2, failed: 1, running: 1 })).toBe("failed");
    expect(sumUp({ pending: 2 })).toBe("pending");
    expect(sumUp({ skipped: 2 })).toBe("skipped");
  });

  it("knows which arrows of a condition live", () => {
    expect(flowOf({ port: "false" }, nodes.f)).toBe("live");
    expect(flowOf({ port: "true" }, nodes.f)).toBe("dead");
    expect(flowOf({ port: "default" }, nodes.c)).toBe("waiting");
    expect(flowOf({ port: "error" }, { id: "x", status: "failed" })).toBe("live");
    expect(flowOf({ port: "default" }, { id: "x", status: "failed" })).toBe("failed");
  });
});
