-- Purpose: a piece of a large object, as of the snapshot; empty behind its end.
-- Parameters: $1 oid; $2 bigint: offset in bytes; $3 integer: length in bytes
-- Columns: piece bytea
-- Oldest server: 12
SELECT pg_catalog.lo_get($1, $2, $3) AS piece;
