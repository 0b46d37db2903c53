-- PostgreSQL's own collations that work with the database's encoding. The C library's are those that its system
-- had when the cluster was made; small container images have few.
-- Columns: name text. Oldest server: 12.
SELECT c.collname::pg_catalog.text AS name
  FROM pg_catalog.pg_collation c
  JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
 WHERE c.collnamespace = 'pg_catalog'::pg_catalog.regnamespace
   AND c.collencoding IN (-1, d.encoding)
 ORDER BY c.collname
