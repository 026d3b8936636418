// elk's layered layout in a worker, for as long as we wait for it.

import ELK, { type ElkExtendedEdge, type ElkNode } from "elkjs/lib/elk-api.js";
import workerUrl from "elkjs/lib/elk-worker.min.js?url";
import { GAP_X, GAP_Y, type Link, type Size, type Spot } from "./grid";

export const WAIT_S = 2;
/** Above this elk needs longer than that. */
export const NODES_MAX = 1200;
export const LINKS_MAX = 2500;

let elk: InstanceType<typeof ELK> | null = null;

function started(): InstanceType<typeof ELK> {
  elk ??= new ELK({ workerFactory: () => new Worker(new URL(workerUrl, document.baseURI)) });
  return elk;
}

/** It takes its time to load: it may do so while the server answers. */
export function warm(): void {
  try {
    started();
  } catch {
    // no worker here, as in a page from a file
  }
}

const OPTIONS: Record<string, string> = {
  "elk.algorithm": "layered",
  "elk.edgeRouting": "ORTHOGONAL",
  "elk.layered.spacing.nodeNodeBetweenLayers": String(GAP_X),
  "elk.spacing.nodeNode": String(GAP_Y),
  "elk.layered.spacing.edgeNodeBetweenLayers": "18",
  "elk.layered.spacing.edgeEdgeBetweenLayers": "10",
  "elk.spacing.edgeNode": "14",
  "elk.spacing.edgeEdge": "10",
  "elk.layered.nodePlacement.strategy": "BRANDES_KOEPF",
  "elk.layered.nodePlacement.bk.fixedAlignment": "BALANCED",
  "elk.layered.considerModelOrder.strategy": "NODES_AND_EDGES",
  "elk.padding": "[top=0,left=0,bottom=0,right=0]",
};

export interface Routed {
  spots: Spot[];
  routes: (Spot[] | null)[];
  w: number;
  h: number;
}

/** Places and ways; null when elk took too long or could not be started. */
export async function byElk(sizes: readonly Size[], links: readonly Link[], down: boolean, wait_s = WAIT_S): Promise<Routed | null> {
  if (sizes.length > NODES_MAX || links.length > LINKS_MAX || wait_s <= 0) return null;
  const graph: ElkNode = {
    id: "root",
    layoutOptions: { ...OPTIONS, "elk.direction": down ? "DOWN" : "RIGHT" },
    children: sizes.map(({ w, h }, k) => ({ id: `n${k}`, width: w, height: h })),
    edges: links.map(({ from, to, back }, k): ElkExtendedEdge => ({
      // a back arrow is laid out forwards: elk breaks no cycle then, and none in the wrong place
      id: `e${k}`, sources: [`n${back ? to : from}`], targets: [`n${back ? from : to}`],
    })),
  };
  let timer: ReturnType<typeof setTimeout> | undefined;
  try {
    const late = new Promise<null>((done) => {
      timer = setTimeout(done, wait_s * 1000, null);
    });
    const laid = await Promise.race([started().layout(graph), late]);
    if (laid !== null) return read(laid, links);
  } catch {
    // no worker here, as in a page from a file
  } finally {
    clearTimeout(timer);
  }
  elk?.terminateWorker(); // it would count on
  elk = null;
  return null;
}

function read(laid: ElkNode, links: readonly Link[]): Routed {
  const routes: (Spot[] | null)[] = links.map(() => null);
  for (const edge of laid.edges ?? []) {
    const section = edge.sections?.[0];
    if (section === undefined) continue;
    const route = [section.startPoint, ...(section.bendPoints ?? []), section.endPoint];
    const k = Number(edge.id.slice(1));
    routes[k] = links[k]?.back && links[k].from !== links[k].to ? route.reverse() : route;
  }
  return {
    spots: (laid.children ?? []).map(({ x = 0, y = 0 }) => ({ x, y })),
    routes,
    w: laid.width ?? 0,
    h: laid.height ?? 0,
  };
}
