-- Other client sessions in the connected database. For other roles' sessions the server hides all but pid,
-- role and application_name from a role without pg_read_all_stats.
-- Columns: named as in `ClientSession`. Oldest server: 12.
SELECT a.pid,
       a.usename AS role,
       coalesce(r.rolsuper, false) AS is_superuser,
       a.application_name,
       pg_catalog.host(a.client_addr) AS client,
       a.state
  FROM pg_catalog.pg_stat_activity a
  LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid
 WHERE a.datname = pg_catalog.current_database()
   AND a.usename IS NOT NULL
   AND a.pid <> pg_catalog.pg_backend_pid()
   AND coalesce(a.backend_type, 'client backend') = 'client backend'
 ORDER BY a.pid
