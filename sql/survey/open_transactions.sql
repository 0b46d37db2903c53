-- Transactions that are open on the server, prepared ones among them; pgmove's own are left out. Who has a transaction,
-- and who has written in it, pg_locks tells everybody; since when is hidden of other roles without pg_read_all_stats.
-- Parameters: $1 text: application_name of pgmove's sessions
-- Columns: name text: the session's application_name, or the prepared transaction's gid; role text; database text;
--          pid int4: none for a prepared one; seconds int8: none where hidden; has_written boolean.
-- Oldest server: 12.
SELECT coalesce(a.application_name, '') AS name,
       coalesce(a.usename, '')::pg_catalog.text AS role,
       coalesce(a.datname, '')::pg_catalog.text AS database,
       a.pid,
       extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start)::pg_catalog.int8 AS seconds,
       pg_catalog.bool_or(l.locktype = 'transactionid') AS has_written
  FROM pg_catalog.pg_locks l
  JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
 WHERE l.locktype IN ('virtualxid', 'transactionid')
   AND l.mode = 'ExclusiveLock'
   AND l.granted
   AND a.usename IS NOT NULL
   AND a.pid <> pg_catalog.pg_backend_pid()
   AND a.application_name <> $1
 GROUP BY a.application_name, a.usename, a.datname, a.pid, a.xact_start
 UNION ALL
SELECT x.gid,
       x.owner::pg_catalog.text,
       x.database::pg_catalog.text,
       NULL,
       extract(epoch FROM pg_catalog.clock_timestamp() - x.prepared)::pg_catalog.int8,
       true
  FROM pg_catalog.pg_prepared_xacts x
 ORDER BY seconds DESC NULLS LAST, pid, name
