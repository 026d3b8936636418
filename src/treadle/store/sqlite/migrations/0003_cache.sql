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
