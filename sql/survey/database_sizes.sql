-- What the databases of the server hold together, as far as the role may know: of a database that it may not connect to, it
-- is not told the size.
-- Columns: bytes int8. Oldest server: 12.
SELECT coalesce(sum(pg_catalog.pg_database_size(d.oid)), 0)::pg_catalog.int8 AS bytes
  FROM pg_catalog.pg_database d
 WHERE pg_catalog.has_database_privilege(d.oid, 'CONNECT')
    OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')
