-- Columns of tables and materialised views, dropped ones left out. Members of extensions are among them; who
-- asks knows which relations are wanted.
-- Columns: relation oid, then as in `Column`. Oldest server: 12.
SELECT a.attrelid AS relation,
       a.attnum AS number,
       a.attname AS name,
       a.atttypid AS type_oid,
       pg_catalog.format_type(a.atttypid, a.atttypmod) AS formatted_type,
       a.atttypmod AS type_modifier,
       a.attnotnull AS is_not_null,
       -- A generation expression stands in pg_attrdef too.
       a.atthasdef AND a.attgenerated = '' AS has_default,
       a.attgenerated AS generated,
       a.attidentity AS identity,
       kn.nspname AS collation_schema,
       k.collname AS collation_name
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_catalog.pg_collation k ON k.oid = a.attcollation AND a.attcollation <> t.typcollation
  LEFT JOIN pg_catalog.pg_namespace kn ON kn.oid = k.collnamespace
 WHERE c.relkind IN ('r', 'p', 'f', 'm')
   AND c.relpersistence <> 't'
   AND a.attnum > 0
   AND NOT a.attisdropped
   AND n.nspname !~ '^pg_'
   AND n.nspname NOT IN ('information_schema', 'pgmove')
 ORDER BY a.attrelid, a.attnum
