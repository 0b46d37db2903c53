-- Purpose: the user's objects in some schemas and outside of any, and how to drop them one by one. Members and parts of
--          other objects go with these and are left out. Newest first, so that little goes with another: views before
--          their tables, partitions before their parents.
-- Parameters: $1 oid[]: the schemas
-- Columns: object text: its kind and name for a person; statement text; locks bigint: how many locks dropping it
--          takes at most; is_permitted boolean: whether the session's role has the right to
-- Oldest server: 14
WITH RECURSIVE candidate(catalog, oid, schema) AS (
    -- An object's own dependency on its schema is a normal one; that of default privileges is not.
    SELECT d.classid, d.objid, d.refobjid
      FROM pg_catalog.pg_depend d
     WHERE d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
       AND d.refobjid = ANY ($1::pg_catalog.oid[])
       AND d.objsubid = 0 AND d.deptype = 'n'
       AND d.classid <> 'pg_catalog.pg_extension'::pg_catalog.regclass
     UNION ALL
    SELECT o.tableoid, o.oid, NULL FROM pg_catalog.pg_cast o
     UNION ALL
    SELECT o.tableoid, o.oid, NULL FROM pg_catalog.pg_language o
     UNION ALL
    SELECT o.tableoid, o.oid, NULL FROM pg_catalog.pg_transform o
     UNION ALL
    SELECT o.tableoid, o.oid, NULL FROM pg_catalog.pg_am o
     UNION ALL
    SELECT o.tableoid, o.oid, NULL FROM pg_catalog.pg_foreign_data_wrapper o
     UNION ALL
    SELECT o.tableoid, o.oid, NULL FROM pg_catalog.pg_foreign_server o
     UNION ALL
    SELECT o.tableoid, o.oid, NULL FROM pg_catalog.pg_event_trigger o
     UNION ALL
    SELECT o.tableoid, o.oid, NULL FROM pg_catalog.pg_publication o
), object AS (
    SELECT k.*
      FROM candidate k
     WHERE k.oid >= 16384 -- FirstNormalObjectId
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                        WHERE d.classid = k.catalog AND d.objid = k.oid AND d.objsubid = 0
                          AND d.deptype IN ('e', 'i'))
), reached(root_catalog, root, catalog, oid) AS (
    SELECT object.catalog, object.oid, object.catalog, object.oid FROM object
     UNION
    SELECT r.root_catalog, r.root, d.classid, d.objid
      FROM reached r
      JOIN pg_catalog.pg_depend d ON d.refclassid = r.catalog AND d.refobjid = r.oid
), lock AS (
    SELECT r.root_catalog AS catalog, r.root AS oid, pg_catalog.count(*) AS locks
      FROM reached r
     GROUP BY r.root_catalog, r.root
)
SELECT i.type || ' ' || i.identity AS object,
       CASE i.type
           WHEN 'transform' THEN (
               SELECT pg_catalog.format('DROP TRANSFORM IF EXISTS FOR %s LANGUAGE %I CASCADE',
                                        pg_catalog.format_type(t.trftype, NULL), l.lanname)
                 FROM pg_catalog.pg_transform t
                 JOIN pg_catalog.pg_language l ON l.oid = t.trflang
                WHERE t.oid = object.oid)
           ELSE pg_catalog.format(
               'DROP %s IF EXISTS %s CASCADE',
               CASE i.type
                   WHEN 'function' THEN 'ROUTINE'
                   WHEN 'procedure' THEN 'ROUTINE'
                   WHEN 'aggregate' THEN 'ROUTINE'
                   WHEN 'statistics object' THEN 'STATISTICS'
                   WHEN 'foreign-data wrapper' THEN 'FOREIGN DATA WRAPPER'
                   ELSE pg_catalog.upper(i.type)
               END,
               i.identity)
       END AS statement,
       lock.locks,
       -- The owner of a schema may drop what others own in it. Casts and transforms have no owner.
       coalesce(pg_catalog.pg_has_role(n.nspowner, 'USAGE'), false)
       OR i.type IN ('cast', 'transform')
       OR pg_catalog.pg_has_role(
              coalesce((SELECT s.refobjid
                          FROM pg_catalog.pg_shdepend s
                         WHERE s.dbid = (SELECT b.oid FROM pg_catalog.pg_database b
                                          WHERE b.datname = pg_catalog.current_database())
                           AND s.classid = object.catalog AND s.objid = object.oid AND s.objsubid = 0
                           AND s.deptype = 'o'),
                       10), -- BOOTSTRAP_SUPERUSERID, whose objects are not recorded
              'USAGE') AS is_permitted
  FROM object
  JOIN lock ON lock.catalog = object.catalog AND lock.oid = object.oid
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid = object.schema
 CROSS JOIN LATERAL pg_catalog.pg_identify_object(object.catalog, object.oid, 0) i
 -- An event trigger would fire at every other drop.
 ORDER BY i.type <> 'event trigger', object.oid DESC
