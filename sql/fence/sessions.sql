-- Purpose: sessions of applications in the current database that began before a moment, pgmove's own left out. When a
--          session of another role began is hidden without pg_read_all_stats: such a one counts.
-- Parameters: $1 text: application_name of pgmove's sessions; $2 text: the moment
-- Columns: pid integer, role text, application_name text, is_superuser boolean
-- Oldest server: 12
SELECT activity.pid,
       coalesce(activity.usename::text, '') AS role,
       coalesce(activity.application_name, '') AS application_name,
       coalesce(roles.rolsuper, false) AS is_superuser
FROM pg_catalog.pg_stat_activity AS activity
LEFT JOIN pg_catalog.pg_roles AS roles ON roles.oid OPERATOR(pg_catalog.=) activity.usesysid
WHERE activity.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
  AND activity.usename IS NOT NULL
  AND coalesce(activity.backend_type, 'client backend') OPERATOR(pg_catalog.=) 'client backend'
  AND coalesce(activity.backend_start OPERATOR(pg_catalog.<) $2::text::timestamptz, true)
  AND activity.pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()
  AND activity.application_name OPERATOR(pg_catalog.<>) $1;
