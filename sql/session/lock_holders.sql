-- Purpose: who keeps readers of this database waiting, one row a session. Reading a table conflicts with ACCESS
--          EXCLUSIVE only, held or waited for: whoever comes later queues behind that.
-- Parameters: $1 text: application_name of pgmove's sessions, which are left out
-- Columns: pid integer: none for a prepared transaction; role text, application_name text; query_start text and
--          relation text: none where hidden; mode text; is_granted boolean; waits_for_run boolean: whether it is
--          pgmove's own locks that it waits for
-- Oldest server: 12
WITH held AS (
    SELECT DISTINCT ON (lock.pid)
           lock.pid,
           coalesce(activity.usename::text, '') AS role,
           coalesce(activity.application_name, '') AS application_name,
           activity.query_start,
           pg_catalog.quote_ident(namespace.nspname) || '.' || pg_catalog.quote_ident(class.relname) AS relation,
           lock.mode,
           lock.granted AS is_granted
    FROM pg_catalog.pg_locks AS lock
    LEFT JOIN pg_catalog.pg_stat_activity AS activity ON activity.pid = lock.pid
    LEFT JOIN pg_catalog.pg_class AS class ON class.oid = lock.relation
    LEFT JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = class.relnamespace
    WHERE lock.locktype = 'relation'
      AND lock.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
      AND lock.mode = 'AccessExclusiveLock'
      AND lock.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
      AND activity.application_name IS DISTINCT FROM $1
    -- The lock that it waits for tells most, and the table more than its indexes.
    ORDER BY lock.pid, lock.granted, class.relkind IN ('r', 'p', 'm') DESC, lock.relation
)
SELECT held.pid,
       held.role,
       held.application_name,
       pg_catalog.to_char(held.query_start, 'YYYY-MM-DD HH24:MI:SS "UTC"') AS query_start,
       held.relation,
       held.mode,
       held.is_granted,
       NOT held.is_granted AND EXISTS (
           SELECT FROM pg_catalog.pg_stat_activity AS own
           WHERE own.application_name = $1 AND own.pid = ANY (pg_catalog.pg_blocking_pids(held.pid))
       ) AS waits_for_run
FROM held
ORDER BY held.is_granted DESC, held.query_start;
