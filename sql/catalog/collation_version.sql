-- The version of the database's collation in the server's operating system, now.
-- Columns: actual_collation_version text. Oldest server: 15.
SELECT pg_catalog.pg_database_collation_actual_version(d.oid) AS actual_collation_version
  FROM pg_catalog.pg_database d
 WHERE d.datname = pg_catalog.current_database()
