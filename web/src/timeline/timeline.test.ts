import { describe, expect, test } from "vitest";
import { Cells, compareIterations, decode, ofView } from "./cells";
import { Folding, gaps, ticks } from "./folding";
import { parseZoom, span, zoomed, zoomText } from "./range";
import { leaves, rows, tree } from "./rows";
import { busy, segments } from "./segments";

const FIELDS = [
  "node",
  "iteration",
  "attempt",
  "status",
  "scheduled_at",
  "started_at",
  "ended_at",
  "wake_at",
];
type Raw = [string, string, number, string, number | null, number | null, number | null, number | null];
const cells = (...rows: Raw[]) => new Cells(decode({ fields: FIELDS, rows }));

describe("cells", () => {
  test("are decoded by the names of the columns, whatever their order", () => {
    const [cell] = decode({ fields: ["status", "new", "node", "ended_at"], rows: [["skipped", 1, "a", 4]] });
    expect(cell).toMatchObject({
      path: "a",
      status: "skipped",
      iteration: "1",
      attempt: 1,
      ended: 4,
      started: null,
    });
  });

  test("lie in the order of iteration and attempt, and a later state takes its place", () => {
    const all = cells(
      ["a", "10", 1, "running", 5, 5, null, null],
      ["a", "2", 2, "completed", 3, 3, 4, null],
      ["a", "2", 1, "failed", 1, 1, 2, null],
    );
    expect(all.of("a").map((c) => `${c.iteration}/${c.attempt}`)).toEqual(["2/1", "2/2", "10/1"]);
    const view = ofView({
      id: "a",
      status: "completed",
      iteration: "10",
      attempt: 1,
      started_at: 5,
      ended_at: 6,
    });
    if (view) all.put(view);
    expect(all.of("a").map((c) => c.status)).toEqual(["failed", "completed", "completed"]);
    expect(all.size).toBe(1);
  });

  test("iterations are compared by their numbers", () => {
    expect(["2.10", "2.9", "10", "2"].sort(compareIterations)).toEqual(["2", "2.9", "2.10", "10"]);
  });

  test("a pending view has none", () => expect(ofView({ id: "a", status: "pending" })).toBe(null));
});

describe("segments", () => {
  const kinds = (all: Cells, now = 100) =>
    segments(all.of("a"), now).map((s) => [s.kind, s.from, s.to, s.open ? "open" : s.status]);

  test("queued, ran, paused, ran again", () => {
    expect(
      kinds(cells(["a", "1", 1, "failed", 1, 2, 3, null], ["a", "1", 2, "running", 5, 6, null, null])),
    ).toEqual([
      ["queued", 1, 2, "failed"],
      ["running", 2, 3, "failed"],
      ["pause", 3, 5, "failed"],
      ["queued", 5, 6, "running"],
      ["running", 6, 100, "open"],
    ]);
  });

  test("what waits for an answer is told from what works", () => {
    expect(kinds(cells(["a", "1", 1, "suspended", 1, 1, null, null]))).toEqual([["waiting", 1, 100, "open"]]);
  });

  test("a retry is due", () => {
    expect(kinds(cells(["a", "1", 1, "retrying", 1, 1, 3, 200]))).toEqual([
      ["running", 1, 3, "retrying"],
      ["pause", 3, 100, "open"],
    ]);
  });

  test("what a resume began is no retry", () => {
    const [one, two] = decode({
      fields: [...FIELDS, "round"],
      rows: [
        ["a", "1", 1, "failed", 1, 1, 2, null, 1],
        ["a", "1", 2, "completed", 900, 900, 901, null, 2],
      ],
    });
    expect(segments([one, two] as never, 1000).map((s) => s.kind)).toEqual(["running", "running"]);
  });

  test("a skipped one is a mark, and is busy with nothing", () => {
    const [mark] = segments(cells(["a", "1", 1, "skipped", null, null, 7, null]).of("a"), 100);
    expect(mark).toMatchObject({ kind: "mark", from: 7, to: 7, open: false });
    expect(mark && busy(mark)).toBe(true);
  });

  test("a cancelled one that nobody ended does not go on", () => {
    expect(kinds(cells(["a", "1", 1, "cancelled", 1, 2, null, null]))).toEqual([
      ["queued", 1, 2, "cancelled"],
      ["running", 2, 2, "cancelled"],
    ]);
  });
});

describe("folding", () => {
  test("finds what is between", () => {
    expect(
      gaps(
        [
          { from: 5, to: 6 },
          { from: 1, to: 3 },
          { from: 2, to: 4 },
        ],
        0,
        10,
      ),
    ).toEqual([
      { from: 0, to: 1 },
      { from: 4, to: 5 },
      { from: 6, to: 10 },
    ]);
  });

  test("a night takes little, work takes what it took", () => {
    const scale = new Folding(0, 36060, [{ from: 30, to: 36030 }]);
    expect(scale.length).toBeCloseTo(60 + 60 * 0.06);
    expect(scale.toScale(30)).toBe(30);
    expect(scale.toScale(36030)).toBeCloseTo(33.6);
    expect(scale.folds()).toHaveLength(1);
  });

  test("goes there and back, and never backwards", () => {
    const scale = new Folding(100, 1100, [
      { from: 150, to: 500 },
      { from: 600, to: 1000 },
    ]);
    let before = -Infinity;
    for (let time = 50; time < 1200; time += 7) {
      const u = scale.toScale(time);
      expect(u).toBeGreaterThan(before);
      expect(scale.toTime(u)).toBeCloseTo(time, 6);
      before = u;
    }
  });

  test("short gaps, and those of a second, stay as they are", () => {
    expect(new Folding(0, 100, [{ from: 10, to: 20 }]).folds()).toEqual([]);
    expect(new Folding(0, 1, [{ from: 0.1, to: 0.9 }]).length).toBe(1);
  });

  test("an idle end takes no more while it goes on", () => {
    const scale = new Folding(0, 1000, [{ from: 10, to: 1000 }]);
    expect(scale.toScale(2000)).toBe(scale.length);
    expect(new Folding(0, 10).toScale(12)).toBe(12);
  });

  test("all idle, or no time at all, is a scale too", () => {
    expect(new Folding(0, 100, [{ from: 0, to: 100 }]).length).toBe(1);
    const none = new Folding(5, 5);
    expect([none.length, none.toTime(none.toScale(5))]).toEqual([0, 5]);
  });

  test("ticks are round and few", () => {
    expect(ticks(0.3, 10, 5)).toEqual({ step: 2, at: [2, 4, 6, 8, 10] });
    expect(ticks(0, 7200, 6).step).toBe(1800);
    expect(ticks(0, 30 * 86400, 10).at.length).toBeLessThanOrEqual(11);
  });
});

describe("the zoom", () => {
  test("stands in the URL, and comes back", () => {
    expect(zoomText(0.584, 2663.2)).toBe("0.584-2663.200");
    expect(parseZoom(zoomText(0.0001234, 0.0001239))).toEqual([0.0001234, 0.0001239]);
    expect([parseZoom("5-2"), parseZoom("x"), parseZoom(null)]).toEqual([null, null, null]);
  });
  test("stays within the whole, and is none when it shows all", () => {
    expect(zoomed([0, 10], 0.5, 0, 10)).toEqual([0, 5]);
    expect(zoomed([0, 10], 0.5, 1, 10)).toEqual([5, 10]);
    expect(zoomed([5, 10], 1.5, 1, 10)).toEqual([2.5, 10]);
    expect(zoomed([2, 8], 3, 0.5, 10)).toBe(null);
  });
});

describe("the span", () => {
  test("ends where the execution ended, or goes on until now", () => {
    const all = cells(["a", "1", 1, "running", 10, 10, null, null]);
    const view = { id: "x", name: "x", started_at: 9 };
    const over = span(all, { ...view, status: "failed", ended_at: 14 }, 1000);
    expect([over.folding.from, over.folding.to, over.moves]).toEqual([9, 14, false]);
    const on = span(all, { ...view, status: "running" }, 20);
    expect([on.folding.from, on.folding.to, on.moves]).toEqual([9, 20, true]);
  });
});

describe("rows", () => {
  const all = cells(
    ["m", "1", 1, "running", 1, 1, null, null],
    ["m[10]", "1", 1, "running", 2, 2, null, null],
    ["m[0]", "1", 1, "running", 3, 3, null, null],
    ["a", "1", 1, "completed", 0, 0, 1, null],
    ["m[0]/in", "1", 1, "running", 3, 3, null, null],
  );

  test("closed groups are one row", () => {
    expect(rows(tree(all, ["z", "a"]), new Set()).map((r) => [r.path, r.inside.length])).toEqual([
      ["a", 0],
      ["m", 2],
      ["z", 0],
    ]);
  });

  test("open ones have their items below, by number", () => {
    expect(rows(tree(all), new Set(["m", "m[0]"])).map((r) => [r.path, r.depth])).toEqual([
      ["a", 0],
      ["m", 0],
      ["m[0]", 1],
      ["m[0]/in", 2],
      ["m[10]", 1],
    ]);
    expect(leaves(tree(all), "m")).toEqual(["m[0]/in", "m[10]"]);
  });

  test("ten thousand rows take no time worth a word", () => {
    const many = new Cells(
      decode({
        fields: FIELDS,
        rows: Array.from({ length: 10_000 }, (_, n) => [`n${n}`, "1", 1, "completed", n, n, n + 1, null]),
      }),
    );
    const began = performance.now();
    expect(rows(tree(many), new Set())).toHaveLength(10_000);
    expect(performance.now() - began).toBeLessThan(500);
  });
});
