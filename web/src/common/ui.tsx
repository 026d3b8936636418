import { type ReactNode, useEffect, useRef, useState } from "react";
import type { ApiError } from "../api/client";

/** Nothing here: says so, and what to do. */
export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="empty">
      <h2>{title}</h2>
      {children}
    </div>
  );
}

export function Loading({ what = "Loading" }: { what?: string }) {
  const [late, setLate] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setLate(true), 200); // what is quick needs no word
    return () => clearTimeout(timer);
  }, []);
  return (
    <div className="loading" role="status">
      {late ? `${what} …` : ""}
    </div>
  );
}

export function Failure({ error, again }: { error: ApiError | Error; again?: () => void }) {
  const hint = "hint" in error ? error.hint : null;
  return (
    <div className="failure" role="alert">
      <p>{error.message}</p>
      {hint && <p className="muted">{hint}</p>}
      {again && (
        <button type="button" onClick={again}>
          Try again
        </button>
      )}
    </div>
  );
}

/** A modal dialog; Esc and a click beside it close it. */
export function Dialog({ title, close, wide, children }: {
  title: string;
  close: () => void;
  wide?: boolean;
  children: ReactNode;
}) {
  const ref = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const dialog = ref.current;
    if (dialog === null || dialog.open) return;
    const before = document.activeElement;
    dialog.showModal();
    // the first field, else what one came for; not the cross, which is first
    const field = dialog.querySelector<HTMLElement>(".body :is(input, select, textarea)");
    (field ?? dialog.querySelector<HTMLElement>(".body button[type=submit]"))?.focus();
    return () => {
      // taken away instead of closed, it would leave the focus nowhere
      if (dialog.open) dialog.close();
      if (before instanceof HTMLElement && before.isConnected) before.focus({ preventScroll: true });
    };
  }, []);
  return (
    <dialog
      ref={ref}
      className={wide ? "wide" : undefined}
      aria-label={title}
      onCancel={(event) => {
        event.preventDefault();
        close();
      }}
      onClick={(event) => {
        if (event.target === ref.current) close();
      }}
      onKeyDown={(event) => {
        if (event.key === "Escape") {
          event.preventDefault();
          close();
        }
      }}
    >
      <header>
        <h2>{title}</h2>
        <button type="button" className="plain" aria-label="Close" onClick={close}>
          ✕
        </button>
      </header>
      <div className="body">{children}</div>
    </dialog>
  );
}

/** Text that a click copies. */
export function Copy({ text, children }: { text: string; children?: ReactNode }) {
  const [copied, setCopied] = useState(false);
  return (
    <button
      type="button"
      className="copy mono"
      title={`Copy ${text}`}
      onClick={(event) => {
        event.stopPropagation();
        navigator.clipboard?.writeText(text).then(
          () => {
            setCopied(true);
            setTimeout(() => setCopied(false), 1200);
          },
          () => undefined,
        );
      }}
    >
      {children ?? text}
      <span className="said" role="status">
        {copied ? " copied" : ""}
      </span>
    </button>
  );
}

/** The time in seconds, again every `every` seconds while `runs`. */
export function useNow(every = 1, runs = true): number {
  const [now, setNow] = useState(() => Date.now() / 1000);
  useEffect(() => {
    if (!runs) return;
    setNow(Date.now() / 1000);
    const timer = setInterval(() => setNow(Date.now() / 1000), every * 1000);
    return () => clearInterval(timer);
  }, [every, runs]);
  return now;
}

export function Tabs<T extends string>({ tabs, at, pick, label }: {
  tabs: readonly (readonly [T, ReactNode])[];
  at: T;
  pick: (tab: T) => void;
  label: string;
}) {
  return (
    <div className="tabs" role="tablist" aria-label={label}>
      {tabs.map(([tab, text]) => (
        <button key={tab} type="button" role="tab" aria-selected={tab === at} onClick={() => pick(tab)}>
          {text}
        </button>
      ))}
    </div>
  );
}
