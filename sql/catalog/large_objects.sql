-- Large objects in all. An ordinary role may not read pg_largeobject, but may ask for its size.
-- Columns: count int8, bytes int8. Oldest server: 12.
SELECT pg_catalog.count(*) AS count,
       pg_catalog.pg_table_size('pg_catalog.pg_largeobject'::pg_catalog.regclass) AS bytes
  FROM pg_catalog.pg_largeobject_metadata
