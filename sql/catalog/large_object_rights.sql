-- Owners and privileges of large objects, a page at a time.
-- Parameters: $1 oid, the last one of the page before (0 first); $2 int8, rows of a page.
-- Columns: named as in `LargeObject`. Oldest server: 12.
SELECT m.oid,
       pg_catalog.pg_get_userbyid(m.lomowner) AS owner,
       m.lomacl::pg_catalog.text[] AS acl
  FROM pg_catalog.pg_largeobject_metadata m
 WHERE m.oid > $1::pg_catalog.oid
 ORDER BY m.oid
 LIMIT $2::pg_catalog.int8
