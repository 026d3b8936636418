import { expect, test } from "vitest";
import { type Cell, Cells } from "../timeline/cells";
import { Folding } from "../timeline/folding";
import { series } from "./series";

const cell = (path: string, started: number, ended: number | null, more: Partial<Cell> = {}): Cell => ({
  path, iteration: "1", attempt: 1, status: ended === null ? "running" : "completed", scheduled: started,
  started, ended, wake: null, round: null, waits: null, ...more,
});
const rounded = (numbers: number[]) => numbers.map((n) => Math.round(n * 1000) / 1000);

test("ended nodes a second, and those at work", () => {
  const cells = new Cells([
    cell("a", 100, 101), cell("b", 100, 104), cell("c", 101.5, 102.5), cell("d", 103, null),
    cell("asks", 100, 104, { waits: true }), cell("not", 100, 100, { started: null, status: "skipped" }),
  ]);
  const found = series(cells, new Folding(100, 104), 4);
  expect(found.at).toEqual([0.5, 1.5, 2.5, 3.5]);
  expect(found.rate).toEqual([0, 1, 1, 2]);
  expect(rounded(found.running)).toEqual([2, 1.5, 1.5, 2]);
});

test("a map counts by its items, and what was before the beginning doesn't", () => {
  const cells = new Cells([cell("m", 0, 4), cell("m[0]", 0, 2), cell("m[1]", 2, 4), cell("old", -9, -8)]);
  const found = series(cells, new Folding(0, 4), 2);
  expect(found.rate).toEqual([0, 1]);
  expect(rounded(found.running)).toEqual([1, 1]);
});

test("the whole of it is as much as the nodes worked", () => {
  const cells = new Cells(Array.from({ length: 50 }, (_, k) => cell(`n${k}`, k * 0.13, k * 0.13 + 0.7)));
  const { running } = series(cells, new Folding(0, 8), 37);
  expect((running.reduce((sum, n) => sum + n, 0) * 8) / 37).toBeCloseTo(35, 6);
});

test("a night in which nothing happened takes little of it", () => {
  const night = { from: 10, to: 40_000 };
  const cells = new Cells([...Array.from({ length: 20 }, (_, k) => cell(`n${k}`, k / 2, k / 2 + 0.5)), cell("last", 40_000, 40_010)]);
  const folding = new Folding(0, 40_010, [night]);
  const { at, rate, running } = series(cells, folding, 40);
  expect(at.at(-1)).toBeLessThan(25);
  expect(Math.max(...rate)).toBeGreaterThan(1.5);
  expect(running[5]).toBeCloseTo(1, 6);
  expect(running.at(-2)).toBeCloseTo(1, 6);
  expect(Math.min(...running)).toBeLessThan(0.2);
});
