-- Purpose: remove some of the large objects; each takes one lock.
-- Parameters: $1 bigint: how many at most
-- Columns: removed bigint
-- Oldest server: 14
SELECT pg_catalog.count(pg_catalog.lo_unlink(page.oid)) AS removed
FROM (SELECT oid FROM pg_catalog.pg_largeobject_metadata ORDER BY oid LIMIT $1) AS page;
