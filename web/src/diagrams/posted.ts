import { useEffect, useRef, useState } from "react";
import { ApiError, type Got } from "../api/client";

const REST = 20;

/**
 * As `useGet`, of a POST that changes nothing; again every `every` seconds while the page is seen, or after 20 times as
 * long as the answer took.
 */
export function usePosted<T>(ask: (() => Promise<T>) | null, key: string, every: number): Got<T> {
  const [state, setState] = useState<{ of: string; data: T | null; error: ApiError | null }>({ of: "", data: null, error: null });
  const [turn, setTurn] = useState(0);
  const latest = useRef(ask);
  latest.current = ask;
  const none = ask === null;
  // biome-ignore lint/correctness/useExhaustiveDependencies: `turn` asks again
  useEffect(() => {
    if (none) return;
    let over = false;
    let timer: ReturnType<typeof setTimeout>;
    const go = async () => {
      const began = performance.now();
      if (!document.hidden) {
        try {
          const data = await latest.current?.();
          if (!over && data !== undefined) {
            setState((old) => (old.of === key && JSON.stringify(old.data) === JSON.stringify(data) && old.error === null
              ? old : { of: key, data, error: null }));
          }
        } catch (wrong) {
          const error = wrong instanceof ApiError ? wrong : new ApiError(0, "Error", String(wrong));
          if (!over) setState((old) => ({ of: key, data: old.of === key ? old.data : null, error }));
        }
      }
      if (!over) timer = setTimeout(go, Math.max(every * 1000, (performance.now() - began) * REST));
    };
    go();
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }, [key, none, every, turn]);
  const mine = state.of === key;
  return {
    data: mine ? state.data : null,
    error: mine ? state.error : null,
    loading: !none && !mine,
    again: () => setTurn((n) => n + 1),
  };
}
