-- A whole batch as one statement: INSERT INTO batch VALUES (…), whose trigger does what queries.sql would do in five.
-- Each statement more is a wait for the GIL, up to 5 ms beside a busy event loop. A name in braces is that query of
-- queries.sql with its :parameters read from NEW. Anything unusual (a lost lease, an id that exists, a row that can't be
-- written) raises, nothing is written, and the batch is done again statement by statement.

CREATE TEMP VIEW batch AS
SELECT NULL AS plain_cells, NULL AS cells, NULL AS executions, NULL AS released, NULL AS created, NULL AS owner,
       NULL AS expires_at, NULL AS logs, NULL AS context, NULL AS owned, NULL AS owned_count;

CREATE TEMP TRIGGER write_batch INSTEAD OF INSERT ON batch BEGIN
    {insert_executions};

    SELECT raise(ABORT, 'a diagram is missing') WHERE EXISTS ({without_diagram});

    SELECT raise(ABORT, 'a lease is lost')
    WHERE (SELECT count(*) FROM json_each(NEW.owned) AS held
           JOIN executions ON execution_id = held.value ->> 0 AND lease_epoch = held.value ->> 1) <> NEW.owned_count;

    {upsert_plain_cells};

    {upsert_cells};

    {update_executions};

    {insert_logs};

    {upsert_context};

    {release_leases};
END;
