import { createContext, useContext } from "react";
import { useSource } from "../api/source";
import { useNow } from "../common/ui";

/** The instant that is shown, null for now. */
const InstantContext = createContext<number | null>(null);

export const InstantProvider = InstantContext.Provider;

/** The instant that somebody travelled to, null for now. */
export const useInstant = (): number | null => useContext(InstantContext);

/** The time that is shown, in seconds: that of the server now, again every `every` seconds while `runs`, or the
 * instant that somebody travelled to. */
export function useClock(every = 1, runs = true): number {
  const at = useContext(InstantContext);
  const source = useSource();
  const now = useNow(every, runs && at === null);
  return at ?? now + ("skew" in source ? (source as { skew: () => number }).skew() : 0);
}
