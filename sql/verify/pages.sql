-- Purpose: how many pages a table has now.
-- Parameters: $1 text: the table's qualified name, quoted
-- Columns: pages bigint
-- Oldest server: 12
SELECT pg_catalog.pg_relation_size($1::text::regclass)
       OPERATOR(pg_catalog./) pg_catalog.current_setting('block_size')::bigint AS pages;
