-- Purpose: the schemas that hold the user's objects, less the ledger's, and how to drop them. A schema is dropped
--          whole unless it is public, or an extension stands in it, has a member in it, or made it.
-- Parameters: none
-- Columns: oid oid; object text: its name for a person; statement text; locks bigint: how many locks dropping it takes at
--          most; is_whole boolean; is_permitted boolean: whether the session's role has the right to. Newest first.
-- Oldest server: 14
WITH RECURSIVE schema AS (
    SELECT n.oid, n.nspname, n.nspowner,
           n.nspname <> 'public'
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE e.extnamespace = n.oid)
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                            WHERE d.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
                              AND d.objid = n.oid AND d.deptype = 'e')
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                             JOIN pg_catalog.pg_depend m
                               ON m.classid = d.classid AND m.objid = d.objid AND m.deptype = 'e'
                            WHERE d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
                              AND d.refobjid = n.oid) AS is_whole
      FROM pg_catalog.pg_namespace n
     WHERE n.nspname !~ '^pg_'
       AND n.nspname NOT IN ('information_schema', 'pgmove')
), reached(root, catalog, oid) AS (
    -- A deletion locks every object that goes with it, parts of tables too (AcquireDeletionLock() in
    -- catalog/dependency.c).
    SELECT schema.oid, 'pg_catalog.pg_namespace'::pg_catalog.regclass::pg_catalog.oid, schema.oid
      FROM schema
     WHERE schema.is_whole
     UNION
    SELECT r.root, d.classid, d.objid
      FROM reached r
      JOIN pg_catalog.pg_depend d ON d.refclassid = r.catalog AND d.refobjid = r.oid
)
SELECT schema.oid,
       'schema ' || pg_catalog.quote_ident(schema.nspname) AS object,
       pg_catalog.format('DROP SCHEMA IF EXISTS %I CASCADE', schema.nspname) AS statement,
       (SELECT pg_catalog.count(*) FROM reached r WHERE r.root = schema.oid) AS locks,
       schema.is_whole,
       pg_catalog.pg_has_role(schema.nspowner, 'USAGE') AS is_permitted
  FROM schema
 ORDER BY schema.oid DESC
