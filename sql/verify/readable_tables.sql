-- Purpose: which of these tables the session may read, and so lock.
-- Parameters: $1 text[]: schemas; $2 text[]: names, in the same order
-- Columns: position bigint: place in the list, from 1
-- Oldest server: 12
SELECT wanted.position
FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]))
     WITH ORDINALITY AS wanted (schema, name, position)
JOIN pg_catalog.pg_namespace AS space ON space.nspname OPERATOR(pg_catalog.=) wanted.schema
JOIN pg_catalog.pg_class AS class
  ON class.relnamespace OPERATOR(pg_catalog.=) space.oid AND class.relname OPERATOR(pg_catalog.=) wanted.name
WHERE class.relkind OPERATOR(pg_catalog.=) 'r'
  AND pg_catalog.has_schema_privilege(space.oid, 'USAGE')
  AND pg_catalog.has_table_privilege(class.oid, 'SELECT')
ORDER BY wanted.position;
