-- The schema of a Treadle store, and its glossary. It is the sum of the migrations beside it (a test says so).
--
-- Instants are REAL: seconds since 1970-01-01 UTC. Outputs, inputs, meta, items and requests are TEXT: the codec's JSON.
--
-- diagrams     sources of diagrams by their hash; written once, shared by executions. A large one is a BLOB: zlib
-- executions   one run of one diagram. (epoch, seq) is the version of its cell. lease_epoch is the fencing number of
--              its owner: a claim raises it, and a batch writes only under it. owner is NULL once the lease was given
--              back; expires_at ends the lease of an owner that gives no sign of life
-- node_states  the cells: everything known of one attempt of a node in an iteration. A row is replaced only by one
--              with a larger (epoch, seq). A rowid table with a unique index: WITHOUT ROWID cost three times the space
--              and time at outputs of 1 KB
-- blobs        large outputs by SHA-256; content is NULL if a file beside the store holds it
-- signals      words from outside (answers, signals, cancels) that no node has consumed yet
-- logs         lines that bodies printed (stream: stdout, stderr) or logged (log, with level and logger), and what was
--              left out of them (note). text is a JSON string: nulls and halves of surrogate pairs survive in it
-- cache        results of nodes with `cache: true`, by the digest of all that they depend on
-- keys         data keys of executions, wrapped by the master key; the row of '' is the store's own: it is there in a
--              store that is encrypted. wrapped is NULL once an execution was forgotten. In such a store texts that
--              executions hold begin with ~, and behind `$treadle` stand the addresses of blobs that they name
-- context      the cells of the shared context: one row a key (artifacts.NAME, variables.NAME, plugins.PLUGIN.NAME). value
--              is the codec's JSON, NULL for a key that was deleted. writer is a node's path with its attempt, or a plugin

CREATE TABLE schema_version (
    version INTEGER NOT NULL
);

CREATE TABLE diagrams (
    hash TEXT PRIMARY KEY,
    source TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE executions (
    execution_id TEXT PRIMARY KEY,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    status TEXT NOT NULL,
    name TEXT NOT NULL,
    diagram TEXT NOT NULL,
    inputs TEXT NOT NULL,
    options TEXT NOT NULL,
    created_at REAL,
    started_at REAL,
    ended_at REAL,
    deadline_at REAL,
    output TEXT,
    blob TEXT,
    error TEXT,
    parent TEXT,
    round INTEGER NOT NULL,
    lease_epoch INTEGER NOT NULL,
    owner TEXT,
    expires_at REAL
);

CREATE INDEX executions_by_time ON executions (created_at, execution_id);

CREATE TABLE node_states (
    execution_id TEXT NOT NULL,
    node_id TEXT NOT NULL,
    iteration TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    status TEXT NOT NULL,
    scheduled_at REAL,
    started_at REAL,
    ended_at REAL,
    wake_at REAL,
    output TEXT,
    blob TEXT,
    content_type TEXT,
    meta TEXT,
    error TEXT,
    retryable INTEGER,
    port TEXT,
    lineage TEXT,
    claims INTEGER NOT NULL,
    worker TEXT,
    winner TEXT,
    request TEXT,
    items TEXT,
    round INTEGER NOT NULL
);

CREATE UNIQUE INDEX node_states_by_key ON node_states (execution_id, node_id, iteration, attempt);

CREATE TABLE blobs (
    digest TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    content BLOB
);

CREATE TABLE signals (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    execution_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    node_id TEXT NOT NULL,
    iteration TEXT NOT NULL,
    payload TEXT NOT NULL,
    at REAL NOT NULL
);

CREATE INDEX signals_by_execution ON signals (execution_id, id);

CREATE TABLE logs (
    id INTEGER PRIMARY KEY,
    execution_id TEXT NOT NULL,
    node_id TEXT NOT NULL,
    iteration TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    at REAL NOT NULL,
    stream TEXT NOT NULL,
    level TEXT,
    logger TEXT,
    text TEXT NOT NULL
);

CREATE INDEX logs_by_execution ON logs (execution_id, id);

CREATE TABLE cache (
    key TEXT PRIMARY KEY,
    node_id TEXT NOT NULL,
    name TEXT NOT NULL,
    execution_id TEXT NOT NULL,
    at REAL NOT NULL,
    output TEXT,
    blob TEXT,
    content_type TEXT,
    meta TEXT,
    port TEXT
);

CREATE INDEX cache_by_time ON cache (at);

CREATE TABLE context (
    execution_id TEXT NOT NULL,
    key TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    value TEXT,
    writer TEXT NOT NULL,
    at REAL NOT NULL
);

CREATE UNIQUE INDEX context_by_key ON context (execution_id, key);

CREATE TABLE keys (
    execution_id TEXT PRIMARY KEY,
    master_id TEXT NOT NULL,
    wrapped BLOB,
    at REAL NOT NULL
);
