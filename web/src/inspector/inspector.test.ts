import { describe, expect, test } from "vitest";
import { firstFrame, parseTraceback } from "./traceback";
import type { Attempt } from "./types";
import { moves, why } from "./why";

const TRACE = `Traceback (most recent call last):
  File "/srv/app/tasks.py", line 8, in measure
    return helper(item)
           ^^^^^^^^^^^^
  File "/srv/app/venv/lib/python3.11/site-packages/lib/core.py", line 3, in helper
    raise ValueError(x)
ValueError: cannot measure
because of two lines

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/srv/app/tasks.py", line 20, in outer
    fix()
  File "/usr/lib/python3.11/json/decoder.py", line 337, in decode
    obj, end = self.raw_decode(s)
KeyError: 'x'
`;

describe("a traceback", () => {
  const traces = parseTraceback(TRACE);
  test("has its frames and its error, and how one follows from another", () => {
    expect(
      traces.map((one) => [one.frames.length, one.error.split("\n")[0], one.after?.slice(0, 6) ?? null]),
    ).toEqual([
      [2, "ValueError: cannot measure", null],
      [2, "KeyError: 'x'", "During"],
    ]);
    expect(traces[0]?.error).toContain("two lines");
    expect(traces[0]?.frames[0]).toMatchObject({ line: 8, name: "measure", own: true });
  });
  test("begins with the user's own frame", () => {
    expect(firstFrame(traces)).toMatchObject({ file: "/srv/app/tasks.py", line: 20 });
    expect(traces[0]?.frames.map((frame) => frame.own)).toEqual([true, false]);
  });
  test("code in a diagram is the user's own", () => {
    const inline = parseTraceback('Traceback (most recent call last):\n  File "<code of node a>", line 1, in code\nKeyError: 1');
    expect(firstFrame(inline)?.own).toBe(true);
  });
  test("a text that is none has no frames", () => {
    expect(firstFrame(parseTraceback("it broke"))).toBe(null);
    expect(parseTraceback("")).toEqual([]);
  });
});

describe("attempts", () => {
  const attempt = (more: Partial<Attempt>): Attempt => ({
    iteration: "1",
    attempt: 1,
    status: "completed",
    ...more,
  });
  test("say why they were made", () => {
    const failed = attempt({ status: "failed", lineage: "a", error: { type: "E", message: "" } });
    expect(why(failed, null)).toBe(null);
    expect(why(attempt({ attempt: 2, lineage: "a" }), failed)).toBe("a retry after E");
    expect(why(attempt({ attempt: 2, lineage: "b" }), failed)).toContain("was changed");
    expect(why(attempt({ attempt: 2, lineage: "a" }), failed, 2, 1)).toContain("resume");
    expect(why(attempt({ iteration: "2" }), failed)).toBe(null);
  });
  test("went through their moves", () => {
    const all = [
      attempt({
        status: "failed",
        scheduled_at: 1,
        started_at: 2,
        ended_at: 3,
        error: { type: "E", message: "m" },
      }),
      attempt({ attempt: 2, scheduled_at: 4, started_at: 5, ended_at: 6, port: "true" }),
    ];
    expect(moves(all).map((one) => `${one.at} ${one.to} ${one.note}`.trim())).toEqual([
      "1 scheduled",
      "2 running",
      "3 failed E: m",
      "4 scheduled",
      "5 running",
      "6 completed port true",
    ]);
  });
});
