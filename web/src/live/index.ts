import { type Recorded, recorded } from "../api/recorded";
import type { LiveSource } from "../api/source";
import { LiveSocket } from "./socket";
import { ExecutionStore } from "./store";

/** Watch one execution; `close()` ends it. `rate`: how often it may change, in Hz; the server has a default. */
export function openLive(id: string, options: { rate?: number } = {}): LiveSource {
  const file = recorded();
  if (file !== null) return still(id, file);
  const store = new ExecutionStore(id);
  const socket = new LiveSocket(store, options);
  const hurry = () => {
    if (!document.hidden) socket.hurry();
  };
  window.addEventListener("online", hurry);
  document.addEventListener("visibilitychange", hurry);
  socket.start();
  return {
    ...looks(store),
    open: (groups) => socket.open(groups),
    close: () => {
      window.removeEventListener("online", hurry);
      document.removeEventListener("visibilitychange", hurry);
      socket.stop();
    },
  };
}

const looks = (store: ExecutionStore): Omit<LiveSource, "open" | "close"> => ({
  id: store.id,
  execution: store.execution,
  node: store.node,
  nodes: store.nodes,
  context: store.context,
  connection: store.connection,
  onNode: store.onNode,
  onNodes: store.onNodes,
  onExecution: store.onExecution,
  skew: store.skew,
});

/** A page from a file: all that it will ever know, as of when it was written. */
function still(id: string, file: Recorded): LiveSource {
  const store = new ExecutionStore(id, (flush) => flush());
  if (id === file.id)
    store.receive({
      event_type: "snapshot",
      execution_id: id,
      sequence: 0,
      stream: "file",
      payload: file.snapshot,
    });
  store.connected(id === file.id ? "live" : "gone");
  return {
    ...looks(store),
    open: () => undefined,
    close: () => undefined,
    skew: () => file.at - Date.now() / 1000,
  };
}
