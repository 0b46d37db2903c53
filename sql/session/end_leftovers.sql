-- Purpose: end the sessions that an earlier process of a run has left, as far as this role may; one row for each that is
--          still there. Only a superuser may end a superuser's: for others that would be an error.
-- Parameters: $1 text: their application_name
-- Columns: pid integer, role text, is_sent boolean
-- Oldest server: 14
SELECT activity.pid,
       coalesce(activity.usename::text, '') AS role,
       CASE WHEN own.rolsuper
                 OR (NOT roles.rolsuper AND pg_catalog.pg_has_role(activity.usesysid, 'USAGE'))
            THEN pg_catalog.pg_terminate_backend(activity.pid)
       END AS is_sent
FROM pg_catalog.pg_stat_activity AS activity
JOIN pg_catalog.pg_roles AS roles ON roles.oid OPERATOR(pg_catalog.=) activity.usesysid
CROSS JOIN pg_catalog.pg_roles AS own
WHERE own.rolname OPERATOR(pg_catalog.=) current_user
  AND activity.application_name OPERATOR(pg_catalog.=) $1
  AND activity.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
  AND activity.pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid();
