import { describe, expect, it } from "vitest";
import css from "./tokens.css?raw";

type Rgb = [number, number, number];

const tokens = new Map([...css.matchAll(/--([\w-]+):\s*light-dark\((#\w{6}),\s*(#\w{6})\)/g)].map(
  ([, name, light, dark]) => [name!, [rgb(light!), rgb(dark!)] as const]));

function rgb(hex: string): Rgb {
  return [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16) / 255) as Rgb;
}

function luminance(color: Rgb): number {
  const [r, g, b] = color.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)) as Rgb;
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(a: Rgb, b: Rgb): number {
  const [dark, light] = [luminance(a), luminance(b)].sort((x, y) => x - y) as [number, number];
  return (light + 0.05) / (dark + 0.05);
}

const STATUSES = [
  "pending", "scheduled", "running", "suspended", "retrying", "completed", "failed", "skipped", "cancelled", "stale",
];
const GROUNDS = ["bg", "surface", "raised", "sunken", "hover", "selected"];

describe.each(["light", "dark"])("contrast, %s", (theme) => {
  const of = (name: string) => tokens.get(name)![theme === "light" ? 0 : 1];

  it.each(["text", "muted", "accent", "danger", ...STATUSES])("%s is read on every ground (WCAG AA)", (name) => {
    for (const ground of GROUNDS) expect(contrast(of(name), of(ground)), ground).toBeGreaterThanOrEqual(4.5);
  });

  it.each(STATUSES)("%s, the text and the accent are read on its tint", (name) => {
    for (const front of [name, "text", "muted", "accent"]) {
      expect(contrast(of(front), of(`${name}-tint`)), front).toBeGreaterThanOrEqual(4.5);
    }
  });

  it("shows what a button says", () => {
    expect(contrast(of("on-accent"), of("accent"))).toBeGreaterThanOrEqual(4.5);
  });
});
