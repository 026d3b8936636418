import { useSyncExternalStore } from "react";
import { ApiError } from "../api/client";

interface Note {
  id: number;
  text: string;
  hint: string | null;
  bad: boolean;
}

let notes: readonly Note[] = [];
let next = 1;
const listeners = new Set<() => void>();

function set(to: readonly Note[]) {
  notes = to;
  for (const listener of listeners) listener();
}

/** A short note at the page's foot, for some seconds. */
export function say(text: string, hint: string | null = null, bad = false): void {
  const id = next++;
  set([...notes.slice(-2), { id, text, hint, bad }]);
  setTimeout(() => dismiss(id), bad ? 10_000 : 4_000);
}

function dismiss(id: number) {
  set(notes.filter((note) => note.id !== id));
}

/** What went wrong, as the server says it. */
export function sayError(error: unknown): void {
  if (error instanceof ApiError) say(error.message, error.hint, true);
  else say(error instanceof Error ? error.message : String(error), null, true);
}

export function Notes() {
  const now = useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => {
        listeners.delete(listener);
      };
    },
    () => notes,
  );
  return (
    <div className="notes" role="status" aria-live="polite">
      {now.map((note) => (
        <div key={note.id} className={note.bad ? "note bad" : "note"}>
          <div>
            {note.text}
            {note.hint && <div className="muted">{note.hint}</div>}
          </div>
          <button type="button" className="plain" aria-label="Dismiss" onClick={() => dismiss(note.id)}>
            ✕
          </button>
        </div>
      ))}
    </div>
  );
}
