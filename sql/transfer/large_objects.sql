-- Purpose: the large objects of a batch, in order.
-- Parameters: $1 oid: the first; $2 oid: the last
-- Columns: oid oid
-- Oldest server: 12
SELECT oid FROM pg_catalog.pg_largeobject_metadata WHERE oid BETWEEN $1 AND $2 ORDER BY oid;
