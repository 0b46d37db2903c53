-- Purpose: owners, rights and comments of large objects, a page at a time.
-- Parameters: $1 oid: the last one of the page before, 0 first; $2 bigint: rows of a page
-- Columns: oid oid; owner text; acl text[], NULL for the default; comment text
-- Oldest server: 12
SELECT object.oid,
       pg_catalog.pg_get_userbyid(object.lomowner)::text AS owner,
       object.lomacl::text[] AS acl,
       pg_catalog.obj_description(object.oid, 'pg_largeobject') AS comment
FROM pg_catalog.pg_largeobject_metadata AS object
WHERE object.oid OPERATOR(pg_catalog.>) $1::oid
ORDER BY object.oid
LIMIT $2::bigint;
