// The wheel and fingers on the timeline: they change which part of the time is in sight.

import { type RefObject, useEffect, useRef } from "react";
import { setQuery } from "../app/route";
import type { Frame } from "./paint";
import { zoomed, zoomText } from "./range";

/** Browsers refuse more than 200 changes of the URL in 10 s. */
const WRITE_MS = 60;
/** For so long what was set counts, though it may not be drawn yet. */
const FRESH_MS = 150;
/** Fingers that are nearer count as so far apart. */
const APART_PX = 24;

/** From where to where, on the scale. */
type Part = readonly [number, number];

interface Look extends Frame {
  part: Part;
  whole: number;
}

/** Ctrl and the wheel zoom where the pointer is, Shift and the wheel move sideways; two fingers do both. */
export function useZoom(canvas: RefObject<HTMLCanvasElement | null>, frame: () => Frame | null) {
  const latest = useRef(frame);
  latest.current = frame;
  useEffect(() => {
    const element = canvas.current;
    if (element === null) return;
    const sight = new Sight(() => latest.current());
    const wheel = (event: WheelEvent) => turned(sight, event);
    const { grip, drag } = fingers(sight, element);
    element.addEventListener("wheel", wheel, { passive: false });
    for (const name of ["touchstart", "touchend", "touchcancel"] as const)
      element.addEventListener(name, grip, { passive: true });
    element.addEventListener("touchmove", drag, { passive: true });
    return () => {
      sight.end();
      element.removeEventListener("wheel", wheel);
      for (const name of ["touchstart", "touchend", "touchcancel"] as const)
        element.removeEventListener(name, grip);
      element.removeEventListener("touchmove", drag);
    };
  }, [canvas]);
}

/** The part in sight: set at once, and written into the URL a little later. */
class Sight {
  private wanted: Part | null = null;
  private at = 0;
  private written = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly frame: () => Frame | null) {}

  look(): Look | null {
    const frame = this.frame();
    if (frame === null) return null;
    const fresh = performance.now() - this.at < FRESH_MS;
    const part: Part = fresh && this.wanted !== null ? this.wanted : [frame.u0, frame.u1];
    return { ...frame, part, whole: frame.folding.length * 1.01 };
  }

  /** null: the whole. */
  set(part: Part | null, { whole }: Look): void {
    this.wanted = part ?? [0, whole];
    this.at = performance.now();
    this.timer ??= setTimeout(() => this.write(), Math.max(0, this.written + WRITE_MS - this.at));
  }

  end(): void {
    clearTimeout(this.timer);
  }

  private write(): void {
    this.timer = undefined;
    this.written = performance.now();
    const [made, part] = [this.frame(), this.wanted];
    if (made === null || part === null) return;
    const { folding, began } = made;
    const [from, to] = [folding.toTime(part[0]) - began, folding.toTime(part[1]) - began];
    const all = part[1] - part[0] >= folding.length * 1.01;
    setQuery({ zoom: all ? null : zoomText(from, to) }, true);
  }
}

function turned(sight: Sight, event: WheelEvent): void {
  const zooms = event.ctrlKey || event.metaKey;
  const sideways = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
  if (!zooms && Math.abs(sideways) < 1) return;
  const look = sight.look();
  if (look === null) return;
  event.preventDefault();
  const { part, whole, names, width } = look;
  const around = Math.min(1, Math.max(0, (event.offsetX - names) / (width - names)));
  if (zooms) sight.set(zoomed(part, 1.002 ** event.deltaY, around, whole), look);
  else sight.set(within(part[0] + (sideways / (width - names)) * (part[1] - part[0]), part[1] - part[0], whole), look);
}

/** What is below one or two fingers stays below them. */
function fingers(sight: Sight, element: HTMLElement) {
  let held: { under: number[]; wide: number } | null = null;
  const places = (event: TouchEvent): number[] => {
    const { left } = element.getBoundingClientRect();
    const [a, b] = [...event.touches].map((one) => one.clientX - left).sort((x, y) => x - y);
    if (a === undefined || event.touches.length > 2) return [];
    return b === undefined ? [a] : [a, Math.max(b, a + APART_PX)];
  };
  const grip = (event: TouchEvent) => {
    const look = sight.look();
    if (look === null) return;
    const { part, names, width } = look;
    const wide = part[1] - part[0];
    held = { under: places(event).map((x) => part[0] + ((x - names) / (width - names)) * wide), wide };
  };
  const drag = (event: TouchEvent) => {
    const look = sight.look();
    const [a, b] = places(event);
    const [ua, ub] = held?.under ?? [];
    if (look === null || held === null || a === undefined || ua === undefined) return;
    if ((b === undefined) !== (ub === undefined)) return;
    const room = look.width - look.names;
    const wide = b === undefined || ub === undefined ? held.wide : ((ub - ua) / (b - a)) * room;
    sight.set(within(ua - ((a - look.names) / room) * wide, wide, look.whole), look);
  };
  return { grip, drag };
}

/** A part of that width, not beyond the whole. */
function within(from: number, wide: number, whole: number): Part | null {
  if (wide >= whole) return null;
  const left = Math.min(Math.max(0, from), whole - wide);
  return [left, left + wide];
}
