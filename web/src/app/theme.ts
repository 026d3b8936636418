import { useSyncExternalStore } from "react";

export type Theme = "system" | "light" | "dark";
const KEY = "treadle.theme";
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set<() => void>();
let theme: Theme = remembered();
let colors = new Map<string, string>();

function remembered(): Theme {
  try {
    const found = localStorage.getItem(KEY);
    return found === "light" || found === "dark" ? found : "system";
  } catch {
    return "system"; // no storage in this context
  }
}

function apply() {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  colors = new Map();
  for (const listener of listeners) listener();
}

dark.addEventListener("change", apply);
apply();

export function setTheme(to: Theme): void {
  theme = to;
  try {
    localStorage.setItem(KEY, to);
  } catch {
    // it holds for this page then
  }
  apply();
}

/** Called when colours changed: canvases draw again. */
export function onTheme(listener: () => void): () => void {
  listeners.add(listener);
  return () => {
    listeners.delete(listener);
  };
}

export function useTheme(): Theme {
  return useSyncExternalStore(onTheme, () => theme);
}

/** A token's colour as a canvas takes it: `color("running")`. */
export function color(token: string): string {
  let found = colors.get(token);
  if (found === undefined) {
    const probe = document.createElement("i");
    probe.style.color = `var(--${token})`;
    document.body.append(probe);
    found = getComputedStyle(probe).color;
    probe.remove();
    colors.set(token, found);
  }
  return found;
}
