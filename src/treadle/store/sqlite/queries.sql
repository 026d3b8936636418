-- Statements by name. One statement a table and batch: SQLite parses the JSON document with the GIL released, so the
-- writer never fights the event loop for it. Those with :names are also what batch.sql does in one go. A name in
-- braces stands for the text of that name.

-- name: if_newer
-- A part of others: law 1 in SQL.
ON CONFLICT (execution_id, node_id, iteration, attempt) DO UPDATE SET
    epoch = excluded.epoch, seq = excluded.seq, status = excluded.status, scheduled_at = excluded.scheduled_at,
    started_at = excluded.started_at, ended_at = excluded.ended_at, wake_at = excluded.wake_at,
    output = excluded.output, blob = excluded.blob, content_type = excluded.content_type, meta = excluded.meta,
    error = excluded.error, retryable = excluded.retryable, port = excluded.port, lineage = excluded.lineage,
    claims = excluded.claims, worker = excluded.worker, winner = excluded.winner, request = excluded.request,
    items = excluded.items, round = excluded.round
WHERE (excluded.epoch, excluded.seq) > (node_states.epoch, node_states.seq)

-- name: upsert_cells
INSERT INTO node_states
SELECT e.value ->> 0, e.value ->> 1, e.value ->> 2, e.value ->> 3, e.value ->> 4, e.value ->> 5, e.value ->> 6,
       e.value ->> 7, e.value ->> 8, e.value ->> 9, e.value ->> 10, e.value ->> 11, e.value ->> 12, e.value ->> 13,
       e.value ->> 14, e.value ->> 15, e.value ->> 16, e.value ->> 17, e.value ->> 18, e.value ->> 19, e.value ->> 20,
       e.value ->> 21, e.value ->> 22, e.value ->> 23, e.value ->> 24
FROM jsonb_each(jsonb(:cells)) AS e
WHERE true
{if_newer}

-- name: upsert_plain_cells
INSERT INTO node_states (execution_id, node_id, iteration, attempt, epoch, seq, status, scheduled_at, started_at,
                         ended_at, output, lineage, claims, round)
SELECT e.value ->> 0, e.value ->> 1, e.value ->> 2, e.value ->> 3, e.value ->> 4, e.value ->> 5, e.value ->> 6,
       e.value ->> 7, e.value ->> 8, e.value ->> 9, e.value ->> 10, e.value ->> 11, e.value ->> 12, e.value ->> 13
FROM jsonb_each(jsonb(:plain_cells)) AS e
WHERE true
{if_newer}

-- name: update_executions
UPDATE executions SET
    epoch = e.value ->> 1, seq = e.value ->> 2, status = e.value ->> 3, started_at = e.value ->> 4,
    ended_at = e.value ->> 5, deadline_at = e.value ->> 6, output = e.value ->> 7, blob = e.value ->> 8,
    error = e.value ->> 9, round = e.value ->> 10
FROM jsonb_each(jsonb(:executions)) AS e
WHERE executions.execution_id = e.value ->> 0
  AND (e.value ->> 1, e.value ->> 2) > (executions.epoch, executions.seq)

-- name: lease_epochs
SELECT execution_id, lease_epoch FROM executions
WHERE execution_id IN (SELECT value FROM json_each(?))

-- name: consume_signals
DELETE FROM signals WHERE id IN (SELECT value FROM json_each(?1))
  AND execution_id NOT IN (SELECT value FROM json_each(?2))

-- name: put_diagram
INSERT INTO diagrams (hash, source) VALUES (?, ?) ON CONFLICT (hash) DO NOTHING

-- name: get_diagram
SELECT source FROM diagrams WHERE hash = ?

-- name: insert_executions
INSERT INTO executions (execution_id, epoch, seq, status, name, diagram, inputs, options, created_at, started_at,
                        ended_at, deadline_at, output, blob, error, parent, round, lease_epoch, owner, expires_at)
SELECT e.value ->> 0, e.value ->> 1, e.value ->> 2, e.value ->> 3, e.value ->> 4, e.value ->> 5, e.value ->> 6,
       e.value ->> 7, e.value ->> 8, e.value ->> 9, e.value ->> 10, e.value ->> 11, e.value ->> 12, e.value ->> 13,
       e.value ->> 14, e.value ->> 15, e.value ->> 16, 1, :owner, :expires_at
FROM jsonb_each(jsonb(:created)) AS e
WHERE true

-- name: get_lease
SELECT lease_epoch, owner, expires_at FROM executions WHERE execution_id = ?

-- name: take_lease
UPDATE executions SET lease_epoch = ?, owner = ?, expires_at = ? WHERE execution_id = ?

-- name: renew_lease
UPDATE executions SET expires_at = ? WHERE execution_id = ? AND lease_epoch = ? AND owner = ?

-- name: release_leases
UPDATE executions SET owner = NULL, expires_at = NULL
FROM jsonb_each(jsonb(:released)) AS e
WHERE executions.execution_id = e.value ->> 0 AND executions.lease_epoch = e.value ->> 1

-- name: get_execution
SELECT execution_id, epoch, seq, status, name, diagram, inputs, options, created_at, started_at, ended_at, deadline_at,
       output, blob, error, parent, round, owner, expires_at
FROM executions WHERE execution_id = ?

-- name: list_executions
SELECT execution_id, epoch, seq, status, name, diagram, inputs, options, created_at, started_at, ended_at, deadline_at,
       output, blob, error, parent, round, owner, expires_at
FROM executions
WHERE (?1 IS NULL OR status = ?1) AND (?2 IS NULL OR name = ?2) AND (?3 IS NULL OR execution_id < ?3)
ORDER BY created_at DESC, execution_id DESC LIMIT ?4

-- name: matching_ids
SELECT execution_id FROM executions WHERE substr(execution_id, 1, length(?1)) = ?1 LIMIT 3

-- name: some_ids
SELECT execution_id FROM executions ORDER BY created_at DESC LIMIT 1000

-- name: count_nodes
SELECT count(*), sum(status = 'completed'), sum(status = 'failed') FROM (
    SELECT status, max(attempt) FROM node_states WHERE execution_id = ? GROUP BY node_id, iteration)

-- name: get_cells
SELECT execution_id, node_id, iteration, attempt, epoch, seq, status, scheduled_at, started_at, ended_at, wake_at,
       output, blob, content_type, meta, error, retryable, port, lineage, claims, worker, winner, request, items, round
FROM node_states WHERE execution_id = ?

-- name: put_blob
INSERT INTO blobs (digest, size, content) VALUES (?, ?, ?) ON CONFLICT (digest) DO NOTHING

-- name: get_blob
SELECT content FROM blobs WHERE digest = ?

-- name: put_signal
INSERT INTO signals (execution_id, kind, name, node_id, iteration, payload, at)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE EXISTS (SELECT 1 FROM executions WHERE execution_id = ?1)

-- name: get_signals
SELECT execution_id, kind, name, node_id, iteration, payload, id, at FROM signals
WHERE execution_id IN (SELECT value FROM json_each(?)) ORDER BY id

-- name: last_signal
SELECT seq FROM sqlite_sequence WHERE name = 'signals'
