-- Indexes of tables and materialised views. indkey is longer than indclass by the INCLUDE columns.
-- Columns: named as in `Index`; key_columns (NULL for an expression), key_class_schemas and key_class_names
-- have one element for each key. Oldest server: 12.
SELECT i.oid,
       n.nspname AS schema,
       i.relname AS name,
       tn.nspname AS table_schema,
       t.relname AS table_name,
       t.oid AS table_oid,
       am.amname AS access_method,
       x.indisunique AS is_unique,
       x.indisprimary AS is_primary,
       x.indisvalid AS is_valid,
       x.indisready AS is_ready,
       i.relkind = 'I' AS is_partitioned,
       pn.nspname AS parent_schema,
       p.relname AS parent_name,
       coalesce(pg_catalog.pg_relation_size(i.oid), 0) AS bytes,
       pg_catalog.pg_get_indexdef(i.oid) AS definition,
       k.conname AS constraint_name,
       keys.columns AS key_columns,
       keys.class_schemas AS key_class_schemas,
       keys.class_names AS key_class_names,
       coalesce(i.reloptions, '{}') AS options
  FROM pg_catalog.pg_index x
  JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = i.relnamespace
  JOIN pg_catalog.pg_am am ON am.oid = i.relam
  JOIN pg_catalog.pg_class t ON t.oid = x.indrelid
  JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
 CROSS JOIN LATERAL (
        SELECT pg_catalog.array_agg(a.attname ORDER BY u.position) AS columns,
               pg_catalog.array_agg(cn.nspname ORDER BY u.position) AS class_schemas,
               pg_catalog.array_agg(o.opcname ORDER BY u.position) AS class_names
          FROM ROWS FROM (
                   pg_catalog.unnest(x.indkey::pg_catalog.int2[]),
                   pg_catalog.unnest(x.indclass::pg_catalog.oid[])
               ) WITH ORDINALITY u(attnum, class, position)
          JOIN pg_catalog.pg_opclass o ON o.oid = u.class
          JOIN pg_catalog.pg_namespace cn ON cn.oid = o.opcnamespace
          LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = u.attnum
       ) keys
  LEFT JOIN pg_catalog.pg_constraint k
         ON k.conindid = i.oid AND k.conrelid = x.indrelid AND k.contype IN ('p', 'u', 'x')
  LEFT JOIN pg_catalog.pg_inherits h ON h.inhrelid = i.oid
  LEFT JOIN pg_catalog.pg_class p ON p.oid = h.inhparent
  LEFT JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
 WHERE t.relkind IN ('r', 'p', 'm')
   AND t.relpersistence <> 't'
   AND tn.nspname !~ '^pg_'
   AND tn.nspname NOT IN ('information_schema', 'pgmove')
 ORDER BY n.nspname, i.relname
