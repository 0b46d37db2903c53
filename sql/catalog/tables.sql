-- Tables that hold a user's rows: no members of extensions but their configuration tables, no temporary ones,
-- no system schemas, not schema pgmove. Sizes are of now. The statistics' functions are called in place of the
-- view pg_stat_all_tables, which joins and groups all indexes first.
-- Columns: named as in `Table`, less its columns. Oldest server: 12.
WITH configuration AS (
    SELECT k.oid, e.extname AS extension, coalesce(k.condition, '') AS condition
      FROM pg_catalog.pg_extension e
     CROSS JOIN LATERAL ROWS FROM (
                pg_catalog.unnest(e.extconfig), pg_catalog.unnest(e.extcondition)
           ) k(oid, condition)
), member AS (
    SELECT d.objid
      FROM pg_catalog.pg_depend d
     WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype = 'e'
), inheritance AS (
    SELECT i.inhrelid,
           pg_catalog.array_agg(pn.nspname ORDER BY i.inhseqno) AS schemas,
           pg_catalog.array_agg(p.relname ORDER BY i.inhseqno) AS names
      FROM pg_catalog.pg_inherits i
      JOIN pg_catalog.pg_class p ON p.oid = i.inhparent
      JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
     WHERE p.relkind IN ('r', 'p', 'f')
     GROUP BY i.inhrelid
), primary_key AS (
    SELECT k.conrelid, pg_catalog.array_agg(a.attname ORDER BY u.position) AS columns
      FROM pg_catalog.pg_constraint k
     CROSS JOIN LATERAL pg_catalog.unnest(k.conkey) WITH ORDINALITY u(attnum, position)
      JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.attnum
     WHERE k.contype = 'p'
     GROUP BY k.conrelid
)
SELECT c.oid,
       n.nspname AS schema,
       c.relname AS name,
       c.relkind AS kind,
       pg_catalog.pg_get_userbyid(c.relowner) AS owner,
       c.relpersistence AS persistence,
       c.relispartition AS is_partition,
       coalesce(i.schemas, '{}') AS parent_schemas,
       coalesce(i.names, '{}') AS parent_names,
       am.amname AS access_method,
       ts.spcname AS tablespace,
       size.main / pg_catalog.current_setting('block_size')::pg_catalog.int8 AS pages,
       size.main AS heap_bytes,
       coalesce(pg_catalog.pg_table_size(c.oid), 0) AS total_bytes,
       coalesce(pg_catalog.pg_indexes_size(c.oid), 0) AS index_bytes,
       CASE WHEN c.reltuples > 0 OR c.reltuples = 0 AND c.relpages > 0
            THEN c.reltuples::pg_catalog.int8 END AS estimated_rows,
       pg_catalog.pg_stat_get_tuples_inserted(c.oid)
           + pg_catalog.pg_stat_get_tuples_updated(c.oid)
           + pg_catalog.pg_stat_get_tuples_deleted(c.oid) AS writes,
       coalesce(k.columns, '{}') AS primary_key,
       c.relrowsecurity AS has_row_security,
       c.relforcerowsecurity AS forces_row_security,
       c.relreplident AS replica_identity,
       configuration.extension,
       configuration.condition
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL (SELECT coalesce(pg_catalog.pg_relation_size(c.oid), 0) AS main) size
  LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam
  LEFT JOIN pg_catalog.pg_tablespace ts ON ts.oid = c.reltablespace
  LEFT JOIN inheritance i ON i.inhrelid = c.oid
  LEFT JOIN primary_key k ON k.conrelid = c.oid
  LEFT JOIN member ON member.objid = c.oid
  LEFT JOIN configuration ON configuration.oid = c.oid
 WHERE c.relkind IN ('r', 'p', 'f')
   AND c.relpersistence <> 't'
   AND n.nspname !~ '^pg_'
   AND n.nspname NOT IN ('information_schema', 'pgmove')
   AND (member.objid IS NULL OR configuration.oid IS NOT NULL)
 ORDER BY n.nspname, c.relname
