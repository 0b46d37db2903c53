-- Constraints of tables (NOT NULL is one from 18).
-- Columns: relation oid, then as in `Constraint`. Oldest server: 12.
SELECT k.conrelid AS relation,
       n.nspname AS schema,
       t.relname AS table_name,
       k.conname AS name,
       k.contype AS kind,
       k.convalidated AS is_validated,
       fn.nspname AS references_schema,
       f.relname AS references_name,
       pg_catalog.pg_get_constraintdef(k.oid) AS definition
  FROM pg_catalog.pg_constraint k
  JOIN pg_catalog.pg_class t ON t.oid = k.conrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
  LEFT JOIN pg_catalog.pg_class f ON f.oid = k.confrelid
  LEFT JOIN pg_catalog.pg_namespace fn ON fn.oid = f.relnamespace
 WHERE t.relkind IN ('r', 'p', 'f')
   AND t.relpersistence <> 't'
   AND n.nspname !~ '^pg_'
   AND n.nspname NOT IN ('information_schema', 'pgmove')
 ORDER BY n.nspname, t.relname, k.conname
