-- Purpose: create a large object with the OID that it has on the source.
-- Parameters: $1 oid
-- Columns: lo_create oid
-- Oldest server: 14
SELECT pg_catalog.lo_create($1);
