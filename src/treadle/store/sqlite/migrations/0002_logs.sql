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
