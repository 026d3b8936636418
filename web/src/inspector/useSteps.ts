import { useEffect, useRef, useState } from "react";
import { get, seg } from "../api/client";
import type { Steps } from "../api/schema";
import type { NodeView } from "../api/types";

/** Between two looks; what comes meanwhile is one look. */
const REST_MS = 200;
/** The socket may be ahead of what is written: so often it is asked again. */
const TRIES = 6;

/** The steps of a node's last attempt as they come, as long as `view` says that there are more; else those `known`. */
export function useSteps(id: string, path: string, view: NodeView | undefined, known: Steps, live: boolean): Steps {
  const [told, setTold] = useState<{ of: string; steps: Steps } | null>(null);
  const of = `${id} ${path} ${known.iteration} ${known.attempt}`;
  const want = `${view?.iteration} ${view?.attempt}` !== `${known.iteration} ${known.attempt}` ? "" : `${view?.steps ?? 0} ${view?.partial ?? 0}`;
  const latest = useRef({ view, of });
  latest.current = { view, of };
  const asking = useRef(false);
  const more = useRef(false);

  // biome-ignore lint/correctness/useExhaustiveDependencies: `want` says when
  useEffect(() => {
    if (!live || want === "" || want === `${known.items.length} ${known.partial.length}`) return;
    more.current = true;
    if (asking.current) return;
    const look = async () => {
      asking.current = true;
      let tries = 0;
      while (more.current && tries < TRIES) {
        const mine = latest.current.of;
        more.current = false;
        try {
          const steps = await get<Steps>(`executions/${seg(id)}/steps`, { path, iteration: known.iteration, attempt: known.attempt });
          if (latest.current.of !== mine) break;
          setTold({ of: mine, steps });
          const { view: now } = latest.current;
          const behind = steps.items.length < (now?.steps ?? 0) || (steps.items.length === now?.steps && steps.partial.length < (now?.partial ?? 0));
          tries = behind ? tries + 1 : 0;
          more.current ||= behind;
        } catch {
          tries++; // what is there stays
        }
        await new Promise((done) => setTimeout(done, REST_MS));
      }
      asking.current = false;
    };
    void look();
  }, [id, path, want, live]);

  const newer = told !== null && told.of === of && live;
  return newer && told.steps.items.length >= known.items.length ? told.steps : known;
}
