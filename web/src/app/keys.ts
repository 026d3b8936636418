import { useEffect, useRef } from "react";

/** By key: what it does in words, and the call. Keys are as `KeyboardEvent.key` names them; `Ctrl+` may precede. */
export type Keys = Record<string, readonly [says: string, act: () => void]>;

const layers: { current: Keys }[] = [];

/** Keys that hold while this component is there. Of two for one key the later mounted wins. */
export function useKeys(keys: Keys): void {
  const layer = useRef(keys);
  layer.current = keys;
  useEffect(() => {
    layers.push(layer);
    return () => {
      layers.splice(layers.indexOf(layer), 1);
    };
  }, []);
}

/** Those that hold now. */
export function keysNow(): Map<string, string> {
  const found = new Map<string, string>();
  for (const layer of layers) for (const [key, [says]] of Object.entries(layer.current)) found.set(key, says);
  return found;
}

function typing(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLInputElement) return !["checkbox", "radio", "range", "button"].includes(target.type);
  return target.isContentEditable || ["TEXTAREA", "SELECT"].includes(target.tagName);
}

window.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.altKey || event.isComposing) return;
  const ctrl = event.ctrlKey || event.metaKey;
  const dialog = document.querySelector("dialog[open]");
  if (typing(event.target) && !ctrl) {
    if (event.key === "Escape" && dialog === null) {
      event.preventDefault(); // what is searched for stays: j and k step through what was found
      (event.target as HTMLElement).blur();
    }
    return;
  }
  if (dialog !== null) return; // it has its own
  if (event.key === "Enter" && event.target instanceof HTMLElement && event.target.matches("a, button, summary")) return;
  const key = ctrl ? `Ctrl+${event.key.toLowerCase()}` : event.key;
  for (let k = layers.length - 1; k >= 0; k--) {
    const found = layers[k]?.current[key];
    if (found !== undefined) {
      event.preventDefault();
      found[1]();
      return;
    }
  }
});
