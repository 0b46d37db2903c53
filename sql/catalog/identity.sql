-- Which database of its server this is.
-- Columns: oid oid, name name. Oldest server: 12.
SELECT d.oid, d.datname AS name
  FROM pg_catalog.pg_database d
 WHERE d.datname = pg_catalog.current_database()
