-- How old the oldest transaction id and multixact id of each database is, the oldest first: a server stops to write when
-- one of them comes near to two thousand million.
-- Columns: database text, transactions int8, multixacts int8. Oldest server: 12.
SELECT d.datname::pg_catalog.text AS database,
       pg_catalog.age(d.datfrozenxid)::pg_catalog.int8 AS transactions,
       pg_catalog.mxid_age(d.datminmxid)::pg_catalog.int8 AS multixacts
  FROM pg_catalog.pg_database d
 ORDER BY greatest(pg_catalog.age(d.datfrozenxid), pg_catalog.mxid_age(d.datminmxid)) DESC, d.datname
