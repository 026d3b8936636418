// openapi.json sha256 4e693711b4b3ad6833b02eaa3cdf3c5d801bfd6e597820d1ada482bb65252bdd
// Drawn by web/types.mjs: not for hands.

// biome-ignore lint/suspicious/noExplicitAny: JSON
export type Json = any;

/**
 * An answer to the node with the path `node`; of which turn of the loops around it, unless the last. With
 * `step`, as it stands among what waits, it is refused if that is not asked any more.
 */
export interface Answer {
  node: string;
  value?: Json;
  iteration?: string | null;
  step?: string | null;
}

/**
 * One attempt in one iteration. `kept`: it counts for the diagram as it is now; where the server looks at no
 * code, for the diagram that the last attempt was made by.
 */
export interface Attempt {
  iteration: string;
  attempt: number;
  status: string;
  scheduled_at: number | null;
  started_at: number | null;
  ended_at: number | null;
  wake_at: number | null;
  seconds: number | null;
  port: string | null;
  error: ErrorView | null;
  traceback: string | null;
  claims: number;
  worker: string | null;
  lineage: string | null;
  kept: boolean | null;
  request: Record<string, Json> | null;
}

export interface Cancel {
  reason?: string;
}

/**
 * A diagram: one of `file` (as `GET /api/diagrams` names it), `hash` (of the store) and `source`, a text in the
 * `format` yaml or json.
 */
export interface Chosen {
  file?: string | null;
  hash?: string | null;
  source?: string | null;
  format?: "json" | "yaml";
}

/** What the bodies of an execution share. A value of more than 4 KB is `{"$large": bytes}`. */
export interface Context {
  artifacts: Record<string, Json>;
  variables: Record<string, Json>;
  plugins: Record<string, Json>;
  versions: Record<string, Record<string, Json>>;
}

/** How the diagrams differ: nodes, of the changed ones what, and what isn't about a node. */
export interface DiagramDiff {
  added: string[];
  removed: string[];
  changed: Record<string, string>;
  other: string[];
}

/** A diagram's file. `valid`: it can be started as it is; else `check` says what is wrong. */
export interface DiagramFile {
  file: string;
  name: string;
  valid: boolean;
}

export interface DiagramList {
  files: DiagramFile[];
  stored: DiagramStored[];
}

/** A diagram in the store, with the newest execution of it. */
export interface DiagramStored {
  hash: string;
  name: string;
  executions: number;
  last_id: string;
  last_at: number | null;
}

/** What differs between `a` and `b`; `alike` counts the nodes that are the same. */
export interface Diff {
  same: boolean;
  a: Side;
  b: Side;
  status: [string, string] | null;
  error: [string | null, string | null] | null;
  inputs: Spots | null;
  context: Spots | null;
  output: Spots | null;
  diagram: DiagramDiff;
  nodes: NodeDiff[];
  alike: number;
}

/** A diagram to draw. `hash` is its key in the store, "" for one that was not started. */
export interface Drawn {
  name: string;
  hash: string;
  description: string;
  inputs: Record<string, DrawnInput>;
  nodes: DrawnNode[];
  arrows: DrawnArrow[];
  groups: DrawnGroup[];
  faults: DrawnFault[];
}

/**
 * An arrow. `back`: it begins the next turn of a loop. `label` is what stands on it: port and input, where they
 * are not the default ones.
 */
export interface DrawnArrow {
  source: string;
  port: string;
  target: string;
  input: string;
  label: string;
  back: boolean;
}

/** Something that is wrong with a diagram, and what to do. */
export interface DrawnFault {
  severity: "error" | "warning";
  message: string;
  file: string;
  line: number;
  node: string | null;
  hint: string | null;
}

/**
 * A map (`drawn` if each item is a sub-diagram), a sub-diagram (`drawn`), or a loop (`nodes`: the ids of what is
 * in it).
 */
export interface DrawnGroup {
  id: string;
  kind: "loop" | "map" | "sub";
  nodes: string[];
  drawn: Drawn | null;
}

/** An input of an execution. `default` is missing if it is required. */
export interface DrawnInput {
  type: string;
  required: boolean;
  default?: Json;
  description: string;
}

/**
 * A node. `group` is the id of the group that it opens to (its own id), for a map or a sub-diagram; `loop` is
 * the innermost loop that it is in. `properties` are its own and its policy's, as its file says them.
 */
export interface DrawnNode {
  id: string;
  type: string;
  label: string;
  group: string | null;
  loop: string | null;
  properties: Record<string, Json>;
  source: Place | null;
}

/**
 * The engine of this server. `queue`: updates that are not written yet; `trouble`: why the store can't be
 * written at the moment.
 */
export interface EngineStats {
  running: string[];
  queue: number;
  trouble: string | null;
  durability: string;
  updates: Record<string, number>;
}

/** Why, and what to do. `faults` are of a diagram. */
export interface Error {
  type: string;
  message: string;
  hint?: string | null;
  faults?: Record<string, Json>[];
}

export interface ErrorView {
  type: string;
  message: string;
  node: string | null;
}

/**
 * Where the new execution begins (`at`, a node's path), its inputs where they differ, its diagram as for a
 * resume.
 */
export interface Fork {
  at?: string | null;
  inputs?: Record<string, Json>;
  diagram?: string;
  execution_id?: string | null;
}

/** What was deleted, or would be. */
export interface Gone {
  execution_ids: string[];
  cells: number;
  blobs: number;
  diagrams: number;
  bytes_freed: number;
  dry_run: boolean;
}

/** What is inside of a map, a loop or a sub-diagram, by status. */
export interface Group {
  kind: "loop" | "map" | "sub";
  total: number;
  counts: Record<string, number>;
}

export interface Health {
  status: "ok";
}

/**
 * An execution in a page of the list. `size_bytes`: about what it takes in the store, with its logs, its context
 * and the blobs that it names, which count in full for each execution that names them; of one that runs up to 10
 * s old, and null where it takes too long to tell: ask again.
 */
export interface Listed {
  id: string;
  name: string;
  status: string;
  stale: boolean;
  round: number;
  created_at: number | null;
  started_at: number | null;
  ended_at: number | null;
  deadline_at: number | null;
  parent: string | null;
  owner: string | null;
  error: ErrorView | null;
  diagram: string;
  nodes: number;
  done: number;
  failed: number;
  ended: number;
  size_bytes: number | null;
}

/** Lines in the order in which they were recorded. `last`: ask for what comes `after` it. */
export interface Log {
  items: Said[];
  last: number;
}

/**
 * Times in seconds. `rate`: nodes that ended in a second; `parallelism`: bodies at once, on average;
 * `critical_path`: the chain of nodes that the end waited for.
 */
export interface Metrics {
  elapsed_s: number;
  busy_s: number;
  rate: number;
  retries: number;
  parallelism: number;
  critical_path: string[];
  critical_s: number;
  slowest: Slow[];
}

/**
 * How the last attempts of a node in an iteration differ; null is the same on both sides. `only`: the other
 * execution has no such node. `seconds`: where they are worth a word.
 */
export interface NodeDiff {
  node: string;
  iteration: string;
  only: "a" | "b" | null;
  status: [string, string] | null;
  attempts: [number, number] | null;
  port: [string, string] | null;
  error: [string | null, string | null] | null;
  output: Spots | null;
  seconds: [number, number] | null;
}

/**
 * The latest iteration and attempt of the node at the path `id`. `steps` counts what it has recorded of its own
 * work; `tokens` and `cost` (US dollars) are what those of this attempt took, `partial` the characters of a text
 * that is still coming.
 */
export interface NodeView {
  id: string;
  type: string;
  status: string;
  iteration: string;
  attempt: number;
  scheduled_at: number | null;
  started_at: number | null;
  ended_at: number | null;
  wake_at: number | null;
  port: string | null;
  error: ErrorView | null;
  claims: number;
  worker: string | null;
  winner: string | null;
  content_type: string | null;
  has_output: boolean;
  blob: boolean;
  request: Record<string, Json> | null;
  steps: number;
  tokens: number;
  cost: number;
  partial: number;
  group: Group | null;
}

/** A node, of which one attempt is looked at. `inputs_error`: why inputs can't be told any more. */
export interface NodeWhole {
  id: string;
  type: string;
  status: string;
  iteration: string;
  attempt: number;
  scheduled_at: number | null;
  started_at: number | null;
  ended_at: number | null;
  wake_at: number | null;
  port: string | null;
  error: ErrorView | null;
  claims: number;
  worker: string | null;
  winner: string | null;
  content_type: string | null;
  has_output: boolean;
  blob: boolean;
  request: Record<string, Json> | null;
  steps: number;
  tokens: number;
  cost: number;
  partial: number;
  group: Group | null;
  attempts: Attempt[];
  inputs: Value;
  inputs_error: string | null;
  output: Value;
  recorded: Steps;
  meta: Json;
  traceback: string | null;
  details: Json;
  lineage: string | null;
  properties: Record<string, Json>;
  source: Place | null;
  upstream: string[];
  downstream: string[];
}

/** Nodes that have been reached, in the order in which they were. `total`: of all pages. */
export interface Nodes {
  items: NodeView[];
  total: number;
  next: number | null;
}

/** Executions, the newest first. `next`: the cursor of the next page, if there may be one. */
export interface Page {
  items: Listed[];
  next: string | null;
}

/** A place in a diagram's file; `line` counts from 1, 0 is unknown. */
export interface Place {
  file: string;
  line: number;
}

/** What becomes of a node: `again` means that it is the same and had not ended well. */
export interface Planning {
  node: string;
  what: "again" | "changed" | "kept" | "new" | "removed";
  why: string;
  results: number;
}

/** What a resume would do. `redrawn`: the diagram is not the recorded one; `held`: somebody runs it. */
export interface Plans {
  changes: Planning[];
  changed: boolean;
  redrawn: boolean;
  held: boolean;
  kept_results: number;
}

export interface PluginView {
  name: string;
  version: string;
  origin: string;
  hooks: string[];
  active: boolean;
}

/** The plugins of the server's working folder. `active`: of its engine. */
export interface Plugins {
  plugins: PluginView[];
  problems: string[];
  notes: string[];
}

/** The answer to what can't be done. */
export interface Problem {
  error: Error;
}

/** What goes: each limit holds on its own. `status` and `name` choose what is considered. */
export interface Prune {
  older_s?: number | null;
  keep?: number | null;
  size_bytes_max?: number | null;
  status?: string[];
  name?: string | null;
  dry_run?: boolean;
}

/**
 * With which diagram it goes on: `current`, its file as it is now; `recorded`, as it was; or the name of a file
 * of `GET /api/diagrams`. `strict`: not if anything has changed.
 */
export interface Resume {
  diagram?: string;
  strict?: boolean;
}

/** A line that a body printed (`stdout`, `stderr`) or logged (`log`), or a `note` of Treadle's own. */
export interface Said {
  id: number;
  node: string;
  iteration: string;
  attempt: number;
  at: number;
  stream: string;
  text: string;
  level: string | null;
  logger: string | null;
}

/**
 * It is recorded. `running`: somebody runs the execution and takes it up; `resumed`: nobody did, and this server
 * goes on with it now; `trouble`: why it can't.
 */
export interface Sent {
  id: string;
  running: boolean;
  resumed: boolean;
  trouble: string | null;
}

/** One of the two executions. `seconds`: from its start to its end. */
export interface Side {
  execution_id: string;
  name: string;
  status: string;
  seconds: number | null;
}

export interface Slow {
  node: string;
  iteration: string;
  attempt: number;
  seconds: number;
}

/** A place in a value; `a` or `b` is missing where that one has nothing there. */
export interface Spot {
  path: string;
  a?: Json;
  b?: Json;
}

/**
 * How two values differ: the first thousand places, and how many there are; or a `note` that stands for values
 * that are too large, or can't be read.
 */
export interface Spots {
  count: number;
  note: string | null;
  places: Spot[];
}

/** What to start. A text as value of an input is read as the declared type. */
export interface Start {
  diagram: Chosen;
  inputs?: Record<string, Json>;
  execution_id?: string | null;
}

export interface Started {
  id: string;
  name: string;
  status: string;
}

export interface Stats {
  version: string;
  began_at: number;
  rss_bytes: number;
  may_write: boolean;
  store: StoreStats;
  engine: EngineStats | null;
}

/**
 * What a body has recorded of its work: of `kind` model, tool, answer, summary or step. `attempt` is the one
 * that made it. `meta` has what is known besides: `person`, `model`, `tokens`, `arguments` …
 */
export interface Step {
  name: string;
  kind: string;
  attempt: number;
  started_at: number;
  ended_at: number;
  value: Value;
  error: ErrorView | null;
  meta: Record<string, Json>;
}

/**
 * The steps of one attempt in the order in which they were recorded, and the text of a call that still runs, as
 * far as it has come.
 */
export interface Steps {
  iteration: string;
  attempt: number;
  items: Step[];
  partial: string;
}

/** `size_bytes`: of the file, its log, and its files of blobs; null for a store that is no file. */
export interface StoreStats {
  url: string;
  size_bytes: number | null;
  encrypted: boolean;
}

/** All attempts that are recorded, a row each; `fields` names the columns. */
export interface Timeline {
  fields: string[];
  rows: Json[][];
}

/**
 * A recorded value. `value` is plain JSON; `truncated`: only a preview of it, and `url` has the whole. A blob in
 * it is `{"$blob": digest, "size", "name", "url"}`. `size`: encoded bytes, null if nobody knows.
 */
export interface Value {
  value: Json;
  content_type: string | null;
  size: number | null;
  truncated: boolean;
  url: string | null;
}

/**
 * A node that waits. `kind`: answer, signal or time; `step`: what of its body asks, if it is not the node
 * itself.
 */
export interface Waiting {
  node: string;
  iteration: string;
  kind: string;
  prompt: string | null;
  name: string | null;
  schema: Json;
  wake_at: number | null;
  step: string | null;
}

/**
 * One execution. `counts`: nodes by status, of those that are known so far (`total`), turns of loops counted
 * singly. `tokens` and `cost` (US dollars): what models took.
 */
export interface Whole {
  id: string;
  name: string;
  status: string;
  stale: boolean;
  round: number;
  created_at: number | null;
  started_at: number | null;
  ended_at: number | null;
  deadline_at: number | null;
  parent: string | null;
  owner: string | null;
  error: ErrorView | null;
  diagram: string;
  nodes: number;
  done: number;
  failed: number;
  ended: number;
  size_bytes: number | null;
  counts: Record<string, number>;
  total: number;
  retries: number;
  rate: number;
  tokens: number;
  cost: number;
  inputs: Value;
  output: Value;
  options: Record<string, Json>;
  plugins: string[];
  waiting: Waiting[];
  metrics: Metrics;
}

/** A signal by its name, and what goes with it. */
export interface Word {
  name: string;
  value?: Json;
}
