-- Data keys of executions, wrapped by the master key. The row of '' is the store's own: it is there in a store that is
-- encrypted, and tells whether a master key is the right one. `wrapped` is NULL once an execution was forgotten.

CREATE TABLE keys (
    execution_id TEXT PRIMARY KEY,
    master_id TEXT NOT NULL,
    wrapped BLOB,
    at REAL NOT NULL
);
