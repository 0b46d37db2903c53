-- Members of extensions whose rows belong to the user (pg_extension_config_dump).
-- Columns: extension name, oid, schema name, name name, condition text. Oldest server: 12.
SELECT e.extname AS extension,
       c.oid,
       n.nspname AS schema,
       c.relname AS name,
       coalesce(k.condition, '') AS condition
  FROM pg_catalog.pg_extension e
 CROSS JOIN LATERAL ROWS FROM (
            pg_catalog.unnest(e.extconfig), pg_catalog.unnest(e.extcondition)
       ) k(oid, condition)
  JOIN pg_catalog.pg_class c ON c.oid = k.oid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 ORDER BY e.extname, n.nspname, c.relname
