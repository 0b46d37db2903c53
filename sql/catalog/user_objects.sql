-- The user's objects: how many, and the first few. Not counted: what belongs to an extension ('e') or is a
-- part of another object ('i': row types, arrays, identity sequences, range constructors), PostgreSQL's own,
-- schema public, schemas that an extension stands in, schema pgmove and what is in it.
-- Parameters: $1 int8, how many to name.
-- Columns: kind text, name text, count int8 (of all, on every row); no row where there is none.
-- Oldest server: 12.
WITH schema AS (
    SELECT n.oid
      FROM pg_catalog.pg_namespace n
     WHERE n.nspname !~ '^pg_'
       AND n.nspname NOT IN ('information_schema', 'pgmove')
), candidate(catalog, oid, schema) AS (
    SELECT c.tableoid, c.oid, c.relnamespace
      FROM pg_catalog.pg_class c
     WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S')
     UNION ALL
    SELECT o.tableoid, o.oid, o.pronamespace FROM pg_catalog.pg_proc o
     UNION ALL
    SELECT o.tableoid, o.oid, o.typnamespace FROM pg_catalog.pg_type o
     UNION ALL
    SELECT o.tableoid, o.oid, o.oprnamespace FROM pg_catalog.pg_operator o
     UNION ALL
    SELECT o.tableoid, o.oid, o.opcnamespace FROM pg_catalog.pg_opclass o
     UNION ALL
    SELECT o.tableoid, o.oid, o.opfnamespace FROM pg_catalog.pg_opfamily o
     UNION ALL
    SELECT o.tableoid, o.oid, o.collnamespace FROM pg_catalog.pg_collation o
     UNION ALL
    SELECT o.tableoid, o.oid, o.connamespace FROM pg_catalog.pg_conversion o
     UNION ALL
    SELECT o.tableoid, o.oid, o.stxnamespace FROM pg_catalog.pg_statistic_ext o
     UNION ALL
    SELECT o.tableoid, o.oid, o.cfgnamespace FROM pg_catalog.pg_ts_config o
     UNION ALL
    SELECT o.tableoid, o.oid, o.dictnamespace FROM pg_catalog.pg_ts_dict o
     UNION ALL
    SELECT o.tableoid, o.oid, o.prsnamespace FROM pg_catalog.pg_ts_parser o
     UNION ALL
    SELECT o.tableoid, o.oid, o.tmplnamespace FROM pg_catalog.pg_ts_template o
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
     UNION ALL
    SELECT n.tableoid, n.oid, NULL
      FROM pg_catalog.pg_namespace n
     WHERE n.nspname <> 'public'
       AND n.oid IN (SELECT schema.oid FROM schema)
       AND n.oid NOT IN (SELECT e.extnamespace FROM pg_catalog.pg_extension e)
), object AS (
    SELECT k.catalog, k.oid
      FROM candidate k
     WHERE k.oid >= 16384 -- FirstNormalObjectId
       AND (k.schema IS NULL OR k.schema IN (SELECT schema.oid FROM schema))
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                        WHERE d.classid = k.catalog AND d.objid = k.oid AND d.objsubid = 0
                          AND d.deptype IN ('e', 'i'))
     UNION ALL
    -- lo_create takes any OID.
    SELECT 'pg_catalog.pg_largeobject'::pg_catalog.regclass, m.oid
      FROM pg_catalog.pg_largeobject_metadata m
), named AS (
    SELECT object.*, pg_catalog.count(*) OVER () AS count
      FROM object
     ORDER BY object.catalog, object.oid
     LIMIT $1::pg_catalog.int8
)
SELECT i.type AS kind, i.identity AS name, named.count
  FROM named
 CROSS JOIN LATERAL pg_catalog.pg_identify_object(named.catalog, named.oid, 0) i
 ORDER BY named.catalog, named.oid
