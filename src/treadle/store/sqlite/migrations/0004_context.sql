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
