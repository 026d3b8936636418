import { useSyncExternalStore } from "react";
import { get } from "./client";
import { recorded } from "./recorded";

let mayWrite = recorded() === null;
let asked = !mayWrite; // a file can't be changed, and has nobody to ask
const listeners = new Set<() => void>();

/** Whether our token may change anything; true until the server says that it may not. */
export function useMayWrite(): boolean {
  return useSyncExternalStore(subscribe, () => mayWrite);
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  if (!asked) {
    asked = true;
    get<{ may_write?: boolean }>("stats").then(
      (stats) => {
        mayWrite = stats.may_write !== false;
        for (const each of listeners) each();
      },
      () => {
        asked = false; // whoever comes next asks again
      },
    );
  }
  return () => {
    listeners.delete(listener);
  };
}
