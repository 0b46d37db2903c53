-- Purpose: write a piece of a large object.
-- Parameters: $1 oid; $2 bigint: offset in bytes; $3 bytea
-- Columns: lo_put void
-- Oldest server: 14
SELECT pg_catalog.lo_put($1, $2, $3);
