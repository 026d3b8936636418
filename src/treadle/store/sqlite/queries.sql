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

-- name: insert_logs
INSERT INTO logs (execution_id, node_id, iteration, attempt, at, stream, level, logger, text)
SELECT e.value ->> 0, e.value ->> 1, e.value ->> 2, e.value ->> 3, e.value ->> 4, e.value ->> 5, e.value ->> 6,
       e.value ->> 7, e.value ->> 8
FROM jsonb_each(jsonb(:logs)) AS e

-- name: upsert_context
INSERT INTO context (execution_id, key, epoch, seq, value, writer, at)
SELECT e.value ->> 0, e.value ->> 1, e.value ->> 2, e.value ->> 3, e.value ->> 4, e.value ->> 5, e.value ->> 6
FROM jsonb_each(jsonb(:context)) AS e
WHERE true
ON CONFLICT (execution_id, key) DO UPDATE SET
    epoch = excluded.epoch, seq = excluded.seq, value = excluded.value, writer = excluded.writer, at = excluded.at
WHERE (excluded.epoch, excluded.seq) > (context.epoch, context.seq)

-- name: get_context
SELECT execution_id, key, epoch, seq, value, writer, at FROM context WHERE execution_id = ? ORDER BY key

-- name: said_by
-- A part of others: whose lines. A node stands for its items and its inner nodes, too.
(:node IS NULL OR node_id = :node OR substr(node_id, 1, length(:node) + 1) IN (:node || '[', :node || '/'))
  AND (:attempt IS NULL OR attempt = :attempt)

-- name: get_logs
SELECT execution_id, node_id, iteration, attempt, at, stream, text, level, logger, id FROM logs
WHERE execution_id = :execution_id AND (at, id) > (:at, :id) AND {said_by}
ORDER BY at, id LIMIT :limit

-- name: new_logs
SELECT execution_id, node_id, iteration, attempt, at, stream, text, level, logger, id FROM logs
WHERE execution_id = :execution_id AND id > :id AND {said_by}
ORDER BY id LIMIT :limit

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

-- name: without_diagram
SELECT new.value ->> 0 FROM jsonb_each(jsonb(:created)) AS new
WHERE new.value ->> 5 <> '' AND NOT EXISTS (SELECT 1 FROM diagrams WHERE hash = new.value ->> 5)

-- name: get_lease
SELECT lease_epoch, owner, expires_at FROM executions WHERE execution_id = ?

-- name: take_lease
UPDATE executions SET lease_epoch = ?, owner = ?, expires_at = ? WHERE execution_id = ?

-- name: redraw_execution
UPDATE executions SET diagram = ?, inputs = ?, epoch = ?, seq = ? WHERE execution_id = ? AND lease_epoch = ?

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

-- name: listed
-- A part of others: the newest first, those that follow the one with the id ?3.
WHERE (?1 IS NULL OR status = ?1) AND (?2 IS NULL OR name = ?2) AND (?3 IS NULL OR (created_at, execution_id) < (
    SELECT created_at, execution_id FROM executions WHERE execution_id = ?3))
ORDER BY created_at DESC, execution_id DESC LIMIT ?4

-- name: list_executions
SELECT execution_id, epoch, seq, status, name, diagram, inputs, options, created_at, started_at, ended_at, deadline_at,
       output, blob, error, parent, round, owner, expires_at
FROM executions
{listed}

-- name: matching_ids
SELECT execution_id FROM executions WHERE substr(execution_id, 1, length(?1)) = ?1 LIMIT 3

-- name: some_ids
SELECT execution_id FROM executions ORDER BY created_at DESC LIMIT 1000

-- name: count_nodes
SELECT count(*), sum(status = 'completed'), sum(status = 'failed'),
       sum(status IN ('completed', 'failed', 'skipped', 'cancelled')),
       count(DISTINCT iif(node_id LIKE '%/%' OR node_id LIKE '%]', NULL, node_id)) FROM (
    SELECT node_id, status, max(attempt) FROM node_states WHERE execution_id = ? GROUP BY node_id, iteration)

-- name: get_cells
SELECT execution_id, node_id, iteration, attempt, epoch, seq, status, scheduled_at, started_at, ended_at, wake_at,
       output, blob, content_type, meta, error, retryable, port, lineage, claims, worker, winner, request, items, round
FROM node_states WHERE execution_id = ?

-- name: bare_row
-- A part of others: a row as those who look on get it, without what may be large. Many rows are one JSON document, since
-- each row would be a wait for the GIL. Of meta those with steps: `bare` makes the gist of them.
json_array(id, node_id, iteration, attempt, epoch, seq, status, scheduled_at, started_at, ended_at, wake_at,
           iif(output IS NULL, NULL, ''), blob, content_type, iif(instr(meta, '"steps":['), meta, NULL),
           json_remove(error, '$.traceback', '$.details') || '', retryable, port, lineage, claims,
           worker, winner, request, iif(items LIKE '[%', json_array_length(items) || '', NULL), round)

-- name: whole_row
json_array(id, node_id, iteration, attempt, epoch, seq, status, scheduled_at, started_at, ended_at, wake_at,
           output, blob, content_type, meta, error, retryable, port, lineage, claims, worker, winner, request, items, round)

-- name: new_rows
-- The index is the way: it finds the rows of one execution, and holds their rowids.
SELECT json_group_array(id) FROM (
    SELECT rowid AS id FROM node_states INDEXED BY node_states_by_key
    WHERE execution_id = ?1 AND rowid > ?2 ORDER BY rowid)

-- name: new_cells
SELECT json_group_array({bare_row}) FROM (
    SELECT node_states.rowid AS id, node_states.*
    FROM json_each(?) AS wanted CROSS JOIN node_states ON node_states.rowid = wanted.value)

-- name: new_whole_cells
SELECT json_group_array({whole_row}) FROM (
    SELECT node_states.rowid AS id, node_states.*
    FROM json_each(?) AS wanted CROSS JOIN node_states ON node_states.rowid = wanted.value)

-- name: changed_cells
-- CROSS: the few that were open are looked up, not all compared with them.
SELECT json_group_array({bare_row}) FROM (
    SELECT node_states.rowid AS id, node_states.*
    FROM json_each(:open) AS was CROSS JOIN node_states ON node_states.rowid = was.value ->> 0
    WHERE execution_id = :execution_id AND (epoch, seq) <> (was.value ->> 1, was.value ->> 2))

-- name: changed_whole_cells
SELECT json_group_array({whole_row}) FROM (
    SELECT node_states.rowid AS id, node_states.*
    FROM json_each(:open) AS was CROSS JOIN node_states ON node_states.rowid = was.value ->> 0
    WHERE execution_id = :execution_id AND (epoch, seq) <> (was.value ->> 1, was.value ->> 2))

-- name: group_of
-- A part of others: in what a node is, as a Tally has it.
iif(instr(node_id, '['), substr(node_id, 1, instr(node_id, '[') - 1),
    iif(instr(node_id, '/'), rtrim(rtrim(node_id, replace(node_id, '/', '')), '/'), ''))

-- name: tally
-- Rows that were open, and those behind one; of these the rowids of those that may still change.
SELECT json_array(max(newest), json_group_array(json_array(place, status, many, json(open)))) FROM (
    SELECT place, status, count(*) AS many, max(id) AS newest,
           json_group_array(id) FILTER (WHERE status NOT IN ('completed', 'failed', 'skipped', 'cancelled')) AS open
    FROM (
        SELECT rowid AS id, {group_of} AS place, node_id, iteration, attempt, status
        FROM node_states NOT INDEXED WHERE rowid > :row AND execution_id = :execution_id
        UNION ALL
        SELECT node_states.rowid, {group_of}, node_id, iteration, attempt, status
        FROM json_each(:open) AS was CROSS JOIN node_states ON node_states.rowid = was.value
        WHERE execution_id = :execution_id) AS one
    WHERE status NOT IN ('failed', 'retrying') OR NOT EXISTS (
        SELECT 1 FROM node_states AS later
        WHERE later.execution_id = :execution_id AND later.node_id = one.node_id AND later.iteration = one.iteration
          AND later.attempt > one.attempt)
    GROUP BY place, status)

-- name: first_row
SELECT min(rowid) FROM node_states INDEXED BY node_states_by_key WHERE execution_id = ?

-- name: new_context
SELECT execution_id, key, epoch, seq, value, writer, at FROM context
WHERE execution_id = ? AND (epoch, seq) > (?, ?) ORDER BY key

-- name: last_log
SELECT max(id) FROM logs WHERE execution_id = ?

-- name: head
-- A part of others: the columns of `get_execution` without what may be large.
execution_id, epoch, seq, status, name, diagram, '{}', '{}', created_at, started_at, ended_at, deadline_at,
       NULL, NULL, error, parent, round, owner, expires_at

-- name: get_head
SELECT {head}
FROM executions WHERE execution_id = ?

-- name: list_heads
SELECT {head}
FROM executions
{listed}

-- name: put_cached
INSERT OR REPLACE INTO cache (key, node_id, name, execution_id, at, output, blob, content_type, meta, port)
SELECT e.value ->> 0, e.value ->> 1, e.value ->> 2, e.value ->> 3, e.value ->> 4, e.value ->> 5, e.value ->> 6,
       e.value ->> 7, e.value ->> 8, e.value ->> 9
FROM jsonb_each(jsonb(?)) AS e

-- name: get_cached
SELECT key, node_id, name, execution_id, at, output, blob, content_type, meta, port FROM cache WHERE key = ?

-- name: list_cached
SELECT key, node_id, name, execution_id, at, NULL, blob, content_type, NULL, port FROM cache
WHERE :node IS NULL OR node_id = :node OR substr(node_id, 1, length(:node) + 1) IN (:node || '[', :node || '/')
ORDER BY at DESC, key

-- name: forget_cached
DELETE FROM cache WHERE key IN (SELECT value FROM json_each(?))

-- name: put_blob
INSERT INTO blobs (digest, size, content) VALUES (?, ?, ?)
ON CONFLICT (digest) DO UPDATE SET size = excluded.size, content = ifnull(excluded.content, blobs.content)
WHERE blobs.size < 0 OR blobs.content IS NULL  -- a doomed one is saved

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

-- Pruning. A step a row would be a wait for the GIL a row, so each of these gives one row: a JSON document or a text.

-- name: prunable
SELECT json_group_array(json_array(id, execution_id, status, name, created_at, coalesce(ended_at, started_at, created_at),
                                   diagram, parent, lease_epoch, epoch, seq, owner, expires_at))
FROM (SELECT rowid AS id, * FROM executions WHERE rowid > ?1 ORDER BY rowid LIMIT ?2)

-- name: weigh
-- Cells, bytes without blobs, and texts in which the digests of the blobs stand.
SELECT json_group_array(json_array(
    execution_id, ifnull(cells, 0),
    1000 + octet_length(inputs) + octet_length(options) + ifnull(octet_length(output), 0) + ifnull(bytes, 0)
        + (SELECT ifnull(sum(100 + octet_length(text)), 0) FROM logs WHERE logs.execution_id = e.execution_id)
        + (SELECT ifnull(sum(100 + ifnull(octet_length(value), 0)), 0) FROM context
           WHERE context.execution_id = e.execution_id),
    ifnull(blob, '') || ' ' || {texts_of_execution} || ' ' || ifnull(names, '') || ' ' || ifnull((
        SELECT group_concat(value, ' ') FROM context
        WHERE context.execution_id = e.execution_id AND value GLOB '*$treadle*'), '')))
FROM executions AS e LEFT JOIN (
    SELECT execution_id, count(*) AS cells, group_concat(ifnull(blob, '') || ' ' || {texts_with_blobs}, ' ') AS names,
           sum(250 + ifnull(octet_length(output), 0) + ifnull(octet_length(items), 0) + ifnull(octet_length(meta), 0)
               + ifnull(octet_length(request), 0) + ifnull(octet_length(error), 0)) AS bytes
    FROM node_states WHERE execution_id IN (SELECT value FROM json_each(?1)) GROUP BY execution_id) USING (execution_id)
WHERE execution_id IN (SELECT value FROM json_each(?1))

-- name: count_rows
-- Cells, other rows (lines of logs, keys of the context), and as how many rows the outputs count that are so long that they have pages of their own.
SELECT json_group_array(json_array(
    value, (SELECT count(*) FROM node_states WHERE execution_id = value),
    (SELECT count(*) FROM logs WHERE execution_id = value)
        + (SELECT count(*) + ifnull(sum(octet_length(context.value)), 0) / 4096 FROM context
           WHERE execution_id = json_each.value),
    (SELECT ifnull(sum(octet_length(output)), 0) / 4096 FROM node_states WHERE execution_id = value)))
FROM json_each(?)

-- name: still_prunable
SELECT json_group_array(execution_id)
FROM json_each(:victims) AS v CROSS JOIN executions ON execution_id = v.value ->> 0 AND lease_epoch = v.value ->> 1
    AND epoch = v.value ->> 2 AND seq = v.value ->> 3
WHERE owner IS NULL OR expires_at <= :now OR owner IN (SELECT value FROM json_each(:dead))

-- name: begin_pruning
UPDATE executions SET status = 'cancelled', diagram = ?2, error = ?3, output = NULL, blob = NULL, seq = seq + 1,
                      lease_epoch = lease_epoch + 1, owner = NULL, expires_at = NULL
WHERE execution_id = ?1

-- name: texts_of_cell
-- A part of others: what of a cell can name a blob, beside the column. Values that aren't plain JSON have the mark.
iif(output GLOB '*$treadle*', output, '') || ' ' || iif(items GLOB '*$treadle*', items, '') || ' ' ||
iif(meta GLOB '*$treadle*', meta, '') || ' ' || iif(request GLOB '*$treadle*', request, '')

-- name: texts_of_execution
iif(output GLOB '*$treadle*', output, '') || ' ' || iif(inputs GLOB '*$treadle*', inputs, '')

-- name: texts_with_blobs
-- The same, but only what does name blobs, and little else of it.
CASE WHEN output GLOB '{"$treadle"*"t":"blob"*' THEN output
     WHEN output GLOB '~*$treadle*' THEN substr(output, instr(output, '$treadle')) ELSE '' END || ' ' ||
CASE WHEN meta GLOB '*"t":"blob"*' THEN meta
     WHEN meta GLOB '~*$treadle*' THEN substr(meta, instr(meta, '$treadle')) ELSE '' END || ' ' ||
CASE WHEN request GLOB '{"$treadle"*"t":"blob"*' THEN request
     WHEN request GLOB '~*$treadle*' THEN substr(request, instr(request, '$treadle')) ELSE '' END || ' ' ||
CASE WHEN items GLOB '*"t":"blob"*' THEN items
     WHEN items GLOB '~*$treadle*' THEN substr(items, instr(items, '$treadle')) ELSE '' END

-- name: names_in_cells
SELECT json_array(group_concat(blob, ' '), group_concat({texts_of_cell}, ' '))
FROM node_states WHERE rowid BETWEEN ?1 AND ?2

-- name: names_in_executions
SELECT json_array(group_concat(blob, ' '), group_concat({texts_of_execution}, ' '))
FROM executions WHERE rowid BETWEEN ?1 AND ?2

-- name: names_in_cache
SELECT json_array(group_concat(blob, ' '), group_concat(iif(output GLOB '*$treadle*', output, '') || ' ' ||
                                                        iif(meta GLOB '*$treadle*', meta, ''), ' '))
FROM cache WHERE rowid BETWEEN ?1 AND ?2

-- name: names_in_signals
SELECT json_array(NULL, group_concat(payload, ' ')) FROM signals WHERE payload GLOB '*$treadle*'

-- name: names_in_context
SELECT json_array(NULL, group_concat(value, ' ')) FROM context WHERE rowid BETWEEN ?1 AND ?2 AND value GLOB '*$treadle*'

-- name: last_rows
SELECT json_array((SELECT max(rowid) FROM node_states), (SELECT max(rowid) FROM executions),
                  (SELECT max(rowid) FROM cache), (SELECT max(rowid) FROM context))

-- name: names_pruned
SELECT group_concat(ifnull(blob, '') || ' ' || {texts_of_cell}, ' ') FROM node_states WHERE rowid IN (
    SELECT rowid FROM node_states WHERE execution_id IN (SELECT value FROM json_each(?1)) LIMIT ?2)

-- name: names_pruned_with_them
SELECT group_concat(names, ' ') FROM (
    SELECT ifnull(blob, '') || ' ' || {texts_of_execution} AS names FROM executions
    WHERE execution_id IN (SELECT value FROM json_each(?1))
    UNION ALL
    SELECT value FROM context
    WHERE execution_id IN (SELECT value FROM json_each(?1)) AND value GLOB '*$treadle*')

-- name: prune_executions
DELETE FROM executions WHERE execution_id IN (SELECT value FROM json_each(?))

-- name: list_blobs
SELECT json_group_array(json_array(id, digest, size)) FROM (
    SELECT rowid AS id, digest, size FROM blobs WHERE rowid > ?1 ORDER BY rowid LIMIT ?2)

-- name: some_blobs
SELECT json_group_array(json_array(rowid, digest, size)) FROM blobs
WHERE digest IN (SELECT value FROM json_each(?))

-- name: doom_blobs
-- A doomed blob, one that is deleted unless somebody names it first, has the complement of its size.
UPDATE blobs SET size = ~size WHERE size >= 0 AND digest IN (SELECT value FROM json_each(?))

-- name: save_blobs
UPDATE blobs SET size = ~size WHERE size < 0 AND digest IN (SELECT value FROM json_each(?))

-- name: doomed_blobs
SELECT json_group_array(digest) FROM blobs WHERE size < 0 AND digest IN (SELECT value FROM json_each(?))

-- name: prune_blobs
DELETE FROM blobs WHERE size < 0 AND digest IN (SELECT value FROM json_each(?))

-- name: who_writes
-- Whether anybody holds a lease, and when the oldest body that runs began.
SELECT json_array(EXISTS (SELECT 1 FROM executions WHERE owner IS NOT NULL), (
    SELECT min(cell.started_at) FROM executions AS held
    CROSS JOIN node_states AS cell ON cell.execution_id = held.execution_id AND cell.status = 'running'
    WHERE held.owner IS NOT NULL))

-- name: prune_cache
DELETE FROM cache
WHERE rowid BETWEEN ?1 AND ?2 AND NOT EXISTS (SELECT 1 FROM executions WHERE executions.execution_id = cache.execution_id)

-- name: unused_diagrams
SELECT json_group_array(hash) FROM diagrams WHERE hash NOT IN (SELECT diagram FROM executions)

-- name: prune_diagrams
DELETE FROM diagrams WHERE hash IN (SELECT value FROM json_each(?)) AND hash NOT IN (SELECT diagram FROM executions)

-- name: get_key
SELECT execution_id, master_id, wrapped, at FROM keys WHERE execution_id = ?

-- name: get_keys
SELECT execution_id, master_id, wrapped, at FROM keys WHERE execution_id IN (SELECT value FROM json_each(?))

-- name: all_keys
SELECT execution_id, master_id, wrapped, at FROM keys WHERE execution_id <> '' ORDER BY execution_id

-- name: live_keys
SELECT execution_id, master_id, wrapped, at FROM keys WHERE wrapped IS NOT NULL

-- name: put_keys
INSERT INTO keys (execution_id, master_id, wrapped, at)
SELECT e.value ->> 0, e.value ->> 1, unhex(e.value ->> 2), e.value ->> 3 FROM jsonb_each(jsonb(?)) AS e WHERE true
ON CONFLICT (execution_id) DO NOTHING

-- name: change_key
UPDATE keys SET master_id = ?2, wrapped = ?3, at = ?4 WHERE execution_id = ?1

-- name: destroy_keys
UPDATE keys SET wrapped = NULL, at = ?2 WHERE execution_id IN (SELECT value FROM json_each(?1))

-- name: held_executions
SELECT execution_id, owner FROM executions WHERE owner IS NOT NULL AND expires_at > ?
