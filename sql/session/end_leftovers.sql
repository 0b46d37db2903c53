-- Purpose: end the sessions that an earlier process of a run has left; one row for each that is still there.
-- Parameters: $1 text: their application_name
-- Columns: is_sent boolean
-- Oldest server: 14
SELECT pg_catalog.pg_terminate_backend(pid) AS is_sent
FROM pg_catalog.pg_stat_activity
WHERE application_name = $1
  AND datname = pg_catalog.current_database()
  AND pid <> pg_catalog.pg_backend_pid();
