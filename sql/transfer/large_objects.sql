-- Purpose: the large objects of a batch, in order, with what belongs to them.
-- Parameters: $1 oid: the first; $2 oid: the last
-- Columns: oid oid, owner text, acl text[] (NULL for the default), comment text
-- Oldest server: 12
SELECT oid,
       pg_catalog.pg_get_userbyid(lomowner)::text AS owner,
       lomacl::text[] AS acl,
       pg_catalog.obj_description(oid, 'pg_largeobject') AS comment
FROM pg_catalog.pg_largeobject_metadata
WHERE oid BETWEEN $1 AND $2
ORDER BY oid;
