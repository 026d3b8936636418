import { color } from "../app/theme";
import { parentOf } from "../live/paths";
import type { Cells } from "../timeline/cells";
import type { Span } from "../timeline/range";
import { segments } from "../timeline/segments";

/** Draw how many nodes were at work over the time, and where one failed. */
export function sketch(canvas: HTMLCanvasElement, cells: Cells, { folding }: Span, now: number): void {
  const context = canvas.getContext("2d");
  const ratio = window.devicePixelRatio || 1;
  const [wide, high] = [canvas.clientWidth, canvas.clientHeight];
  if (context === null || wide === 0) return;
  canvas.width = Math.round(wide * ratio);
  canvas.height = Math.round(high * ratio);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  const change = new Float32Array(wide + 2);
  const failed = new Set<number>();
  const inner = new Set<string>();
  for (const path of cells.paths()) {
    const parent = parentOf(path);
    if (parent !== null) inner.add(parent);
  }
  const x = (time: number) =>
    Math.min(wide, Math.max(0, Math.round((folding.toScale(time) / folding.length) * wide)));
  for (const path of cells.paths()) {
    if (inner.has(path)) continue; // what is inside it is counted
    for (const { kind, from, to, status, open } of segments(cells.of(path), now)) {
      if (kind !== "running") continue;
      const [x0, x1] = [x(from), x(to)];
      change[x0] = (change[x0] ?? 0) + 1;
      const end = Math.max(x1, x0 + 1);
      change[end] = (change[end] ?? 0) - 1;
      if (status === "failed" && !open) failed.add(x1);
    }
  }
  let [most, sum] = [0, 0];
  for (let n = 0; n < wide; n++) {
    sum += change[n] ?? 0;
    most = Math.max(most, sum);
  }
  context.clearRect(0, 0, wide, high);
  context.fillStyle = color("running");
  context.globalAlpha = 0.35;
  sum = 0;
  for (let n = 0; n < wide && most > 0; n++) {
    sum += change[n] ?? 0;
    const height = sum > 0 ? Math.max(2, (sum / most) * high) : 0;
    if (height > 0) context.fillRect(n, high - height, 1, height);
  }
  context.globalAlpha = 1;
  context.fillStyle = color("line-strong");
  for (const fold of folding.folds()) context.fillRect(x(fold.from), 0, 1, high);
  context.fillStyle = color("failed");
  for (const n of failed) context.fillRect(n - 1, 0, 2, high);
}
