-- Purpose: after a cut connection, tell whether a unit of work was committed, and whether the process that was
--          at it is still there; one that waits for its client, who is gone, is ended. The process is looked at first:
--          a commit between the two looks is then seen.
-- Parameters: $1 text: the unit; $2 integer: the process, NULL if there was none; $3 text: its application_name
-- Columns: is_running boolean, is_ended boolean, is_committed boolean, row_count bigint, checksum text
-- Oldest server: 14
WITH process AS MATERIALIZED (
    SELECT pg_catalog.count(*) > 0 AS is_running,
           coalesce(pg_catalog.bool_or(CASE WHEN wait_event_type = 'Client'
                                            THEN pg_catalog.pg_terminate_backend(pid) END), false) AS is_ended
    FROM pg_catalog.pg_stat_activity
    WHERE pid = $2 AND application_name = $3 AND state IS DISTINCT FROM 'idle'
)
SELECT process.is_running,
       process.is_ended,
       item IS NOT NULL AS is_committed,
       coalesce(row_count, 0) AS row_count,
       coalesce(checksum, '') AS checksum
FROM process
LEFT JOIN (
    SELECT item, row_count, checksum FROM pgmove.ledger WHERE item = $1
    UNION ALL
    SELECT item, row_count, checksum FROM pgmove.ledger_unlogged WHERE item = $1
) AS unit ON true;
