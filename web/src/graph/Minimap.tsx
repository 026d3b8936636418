import { type PointerEvent, useEffect, useRef } from "react";
import type { Source } from "../api/source";
import { color, onTheme } from "../app/theme";
import type { Layout } from "./layout";
import { prepared, type View } from "./paint";
import { statusOf } from "./standing";

const W = 180;
const H_MAX = 130;
const EVERY_MS = 250;

/** The whole, small, with the place that is seen; a press goes there. */
export function Minimap({ layout, source, view, room, to }: {
  layout: Layout;
  source: Source;
  view: View;
  room: { w: number; h: number };
  to: (x: number, y: number) => void;
}) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const scale = Math.min(W / Math.max(1, layout.w), H_MAX / Math.max(1, layout.h));
  const [w, h] = [Math.max(20, layout.w * scale), Math.max(14, layout.h * scale)];
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const draw = () => {
      timer = undefined;
      const ready = canvas.current && prepared(canvas.current);
      if (!ready) return;
      const { g } = ready;
      for (const box of layout.boxes) {
        if (box.frame) continue;
        const status = statusOf(source, box);
        g.fillStyle = color(status);
        g.globalAlpha = status === "pending" || status === "skipped" ? 0.35 : 0.9;
        g.fillRect(box.x * scale, box.y * scale, Math.max(1, box.w * scale), Math.max(1, box.h * scale));
      }
    };
    const soon = () => {
      timer ??= setTimeout(draw, EVERY_MS);
    };
    draw();
    const ends = [source.onNodes(soon), onTheme(draw)];
    return () => {
      clearTimeout(timer);
      for (const end of ends) end();
    };
  }, [layout, source, scale]);
  const press = (event: PointerEvent<HTMLElement>) => {
    if (event.type === "pointermove" && event.buttons === 0) return;
    const at = event.currentTarget.getBoundingClientRect();
    event.currentTarget.setPointerCapture(event.pointerId);
    to((event.clientX - at.left) / scale, (event.clientY - at.top) / scale);
  };
  const left = Math.max(0, -view.x / view.zoom) * scale;
  const top = Math.max(0, -view.y / view.zoom) * scale;
  const right = Math.min(w, ((room.w - view.x) / view.zoom) * scale);
  const bottom = Math.min(h, ((room.h - view.y) / view.zoom) * scale);
  return (
    <div className="minimap" style={{ width: w, height: h }} onPointerDown={press} onPointerMove={press} aria-hidden="true">
      <canvas ref={canvas} style={{ width: w, height: h }} />
      {right > left && bottom > top && <div className="seen" style={{ left, top, width: right - left, height: bottom - top }} />}
    </div>
  );
}
