import { describe, expect, test } from "vitest";
import type { Drawn } from "../api/types";
import { labels } from "./labels";
import { parts } from "./mask";
import type { Message } from "./messages";
import { groupsAround, parentOf, shortName } from "./paths";
import { apply, nothing } from "./reduce";
import { LiveSocket, pause, type Surroundings, type Wire } from "./socket";
import { ExecutionStore } from "./store";

const snapshot = (nodes: Record<string, object>, sequence = 1): Message => ({
  event_type: "snapshot",
  execution_id: "x",
  sequence,
  stream: "s",
  payload: {
    execution: { id: "x", status: "running", done: 0 },
    nodes: nodes as never,
    context: { artifacts: {} },
  },
});
const update = (update_mask: string[], payload: object, sequence = 2): Message => ({
  event_type: "state_update",
  execution_id: "x",
  sequence,
  stream: "s",
  update_mask,
  payload,
});

describe("a mask", () => {
  test.each([
    ["nodes.transform_csv.status", ["nodes", "transform_csv", "status"]],
    ["nodes.parse[17].status", ["nodes", "parse[17]", "status"]],
    ["nodes.sub/in ner.port", ["nodes", "sub/in ner", "port"]],
    ['nodes["a.b"].status', ["nodes", "a.b", "status"]],
    ['nodes["a\\"].b"]', ["nodes", 'a"].b']],
    ["context.artifacts", ["context", "artifacts"]],
    ["execution", ["execution"]],
  ])("%s", (mask, expected) => expect(parts(mask)).toEqual(expected));

  test("a quote without an end is refused", () => expect(() => parts('nodes["a')).toThrow(/does not end/));
});

describe("the reducer", () => {
  test("takes what the mask names and leaves the rest", () => {
    const known = nothing();
    apply(
      known,
      snapshot({ a: { id: "a", status: "running", attempt: 2 }, b: { id: "b", status: "pending" } }),
    );
    const before = known.nodes.get("a");
    const touched = apply(
      known,
      update(["nodes.a.status"], { nodes: { a: { status: "completed", attempt: 9 } } }),
    );
    expect(known.nodes.get("a")).toEqual({ id: "a", status: "completed", attempt: 2 });
    expect(before?.status).toBe("running");
    expect([...touched.nodes]).toEqual(["a"]);
    expect(touched.shape).toBe(false);
  });

  test("null takes a field or a node away", () => {
    const known = nothing();
    apply(known, snapshot({ a: { id: "a", status: "failed", error: { type: "E", message: "m" } } }));
    apply(known, update(["nodes.a.error"], { nodes: { a: { error: null } } }));
    expect(known.nodes.get("a")).toEqual({ id: "a", status: "failed" });
    expect(apply(known, update(["nodes.a"], { nodes: { a: null } })).shape).toBe(true);
    expect(known.nodes.size).toBe(0);
  });

  test("a node nobody knew comes with its path", () => {
    const known = nothing();
    const touched = apply(known, update(["nodes.p[1].started_at"], { nodes: { "p[1]": { started_at: 5 } } }));
    expect(known.nodes.get("p[1]")).toEqual({ id: "p[1]", status: "pending", started_at: 5 });
    expect(touched.shape).toBe(true);
  });

  test("execution and context go field by field", () => {
    const known = nothing();
    apply(known, snapshot({}));
    apply(
      known,
      update(["execution.done", "context.artifacts"], {
        execution: { done: 3 },
        context: { artifacts: { n: 1 } },
      }),
    );
    expect(known.execution).toMatchObject({ status: "running", done: 3 });
    expect(known.context).toEqual({ artifacts: { n: 1 }, variables: {}, plugins: {} });
  });
});

describe("the store", () => {
  test("tells a node's listener once a frame, and nobody else", () => {
    const frames: (() => void)[] = [];
    const store = new ExecutionStore("x", (flush) => frames.push(flush));
    store.receive(snapshot({ a: { id: "a", status: "running" }, b: { id: "b", status: "running" } }));
    frames.shift()?.();
    const heard = { a: 0, b: 0, all: [] as unknown[] };
    store.onNode("a", () => heard.a++);
    store.onNode("b", () => heard.b++);
    store.onNodes((paths) => heard.all.push(paths && [...paths]));
    const before = store.nodes();
    for (let n = 3; n < 1003; n++)
      store.receive(update(["nodes.a.attempt"], { nodes: { a: { attempt: n } } }, n));
    expect(frames).toHaveLength(1);
    expect(store.nodes()).toBe(before);
    frames.shift()?.();
    expect(heard).toEqual({ a: 1, b: 0, all: [["a"]] });
    expect(store.node("a")?.attempt).toBe(1002);
    expect(store.nodes()).not.toBe(before);
  });

  test("who stops listening hears nothing", () => {
    const store = new ExecutionStore("x", (flush) => flush());
    let heard = 0;
    const end = store.onNode("a", () => heard++);
    end();
    store.receive(snapshot({ a: { id: "a", status: "running" } }));
    expect(heard).toBe(0);
  });

  test("nodes of a closed group are forgotten", () => {
    const store = new ExecutionStore("x", (flush) => flush());
    const views = ["m", "m[0]", "m[0]/in", "s", "s/in"].map((id) => [id, { id, status: "running" }]);
    store.receive(snapshot(Object.fromEntries(views)));
    store.keep(new Set(["m"]));
    expect([...store.nodes().keys()]).toEqual(["m", "m[0]", "s"]);
  });
});

class FakeWire implements Wire {
  onopen: Wire["onopen"] = null;
  onmessage: Wire["onmessage"] = null;
  onclose: Wire["onclose"] = null;
  sent: string[] = [];
  closed = false;
  constructor(
    readonly path: string,
    readonly params: object,
  ) {}
  send = (text: string) => void this.sent.push(text);
  close = () => {
    this.closed = true;
  };
}

function surroundings() {
  const wires: FakeWire[] = [];
  const later: { act: () => void; ms: number }[] = [];
  const asked: number[] = [];
  const around: Surroundings = {
    wire: (path, params) => {
      const wire = new FakeWire(path, params);
      wires.push(wire);
      return wire;
    },
    later: (act, ms) => {
      const one = { act, ms };
      later.push(one);
      return () => void later.splice(later.indexOf(one), 1);
    },
    luck: () => 1,
    why: () => void asked.push(wires.length),
  };
  return { wires, later, asked, around };
}

describe("the socket", () => {
  test("comes back later and later, and goes on where it stopped", () => {
    const { wires, later, asked, around } = surroundings();
    const store = new ExecutionStore("x y", (flush) => flush());
    const socket = new LiveSocket(store, { rate: 2 }, around);
    socket.start();
    expect([wires[0]?.path, wires[0]?.params]).toEqual(["executions/x%20y/live", { rate: 2 }]);
    wires[0]?.onopen?.();
    wires[0]?.onmessage?.({ data: JSON.stringify(snapshot({}, 41)) });
    expect(store.connection()).toBe("live");
    for (const ms of [250, 500, 1000]) {
      wires.at(-1)?.onclose?.({ code: 1006 });
      expect(store.connection()).toBe("reconnecting");
      expect(later[0]?.ms).toBe(ms);
      later.shift()?.act();
    }
    expect(wires.at(-1)?.params).toEqual({ stream: "s", since: 41, rate: 2 });
    expect(asked).toEqual([2, 3]); // those that never opened
  });

  test("what an old connection still says is not heard, and a deleted execution is gone", () => {
    const { wires, later, around } = surroundings();
    const store = new ExecutionStore("x", (flush) => flush());
    new LiveSocket(store, {}, around).start();
    wires[0]?.onclose?.({ code: 1006 });
    later[0]?.act();
    wires[0]?.onmessage?.({ data: JSON.stringify(snapshot({ a: { id: "a", status: "failed" } })) });
    expect(store.nodes().size).toBe(0);
    wires[1]?.onmessage?.({ data: JSON.stringify({ event_type: "error", message: "deleted", gone: true }) });
    expect(store.connection()).toBe("gone");
  });

  test("a refusal is not tried again", () => {
    const { wires, later, around } = surroundings();
    const store = new ExecutionStore("x", (flush) => flush());
    new LiveSocket(store, {}, around).start();
    wires[0]?.onclose?.({ code: 1008 });
    expect([store.connection(), later.length]).toEqual(["refused", 0]);
  });

  test("says which groups are open, again after it came back", () => {
    const { wires, later, around } = surroundings();
    const socket = new LiveSocket(new ExecutionStore("x", (flush) => flush()), {}, around);
    socket.open(["a"]);
    socket.start();
    wires[0]?.onopen?.();
    socket.open(["b"]);
    expect(wires[0]?.sent.map((text) => JSON.parse(text))).toEqual([
      { type: "open", groups: ["a"] },
      { type: "close", groups: ["a"] },
      { type: "open", groups: ["b"] },
    ]);
    wires[0]?.onclose?.({ code: 1012 });
    later[0]?.act();
    wires[1]?.onopen?.();
    expect(wires[1]?.sent).toEqual(['{"type":"open","groups":["b"]}']);
  });

  test("stopped, it stays away", () => {
    const { wires, later, around } = surroundings();
    const socket = new LiveSocket(new ExecutionStore("x"), {}, around);
    socket.start();
    socket.stop();
    wires[0]?.onclose?.({ code: 1006 });
    expect([wires[0]?.closed, later.length]).toEqual([true, 0]);
  });

  test("no pause is longer than eight seconds", () => expect(pause(40, 1)).toBe(8000));
});

test("paths know their groups", () => {
  expect(parentOf("a")).toBe(null);
  expect(parentOf("sub/m[3]")).toBe("sub/m");
  expect(groupsAround("sub/m[3]/in")).toEqual(["sub", "sub/m", "sub/m[3]"]);
  expect([shortName("m[3]"), shortName("sub/in"), shortName("a")]).toEqual(["[3]", "in", "a"]);
});

test("labels hold in every item of a map, and are no names of items", () => {
  const inner = { name: "inner", nodes: [{ id: "a", type: "t", label: "Twice" }], arrows: [], groups: [], inputs: {} };
  const nodes = [{ id: "m", type: "t", label: "Each" }, { id: "b", type: "t", label: "b" }];
  const drawn = { ...inner, nodes, groups: [{ id: "m", kind: "map", drawn: inner }] } as unknown as Drawn;
  expect(["m", "m[3]", "m[3]/a", "b", "nobody"].map(labels(drawn))).toEqual(["Each", null, "Twice", null, null]);
});
