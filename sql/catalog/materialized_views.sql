-- The user's materialised views.
-- Columns: named as in `MaterializedView`, less its columns. Oldest server: 12.
SELECT c.oid,
       n.nspname AS schema,
       c.relname AS name,
       pg_catalog.pg_get_userbyid(c.relowner) AS owner,
       c.relispopulated AS is_populated,
       coalesce(pg_catalog.pg_table_size(c.oid), 0) AS bytes
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'm'
   AND n.nspname !~ '^pg_'
   AND n.nspname NOT IN ('information_schema', 'pgmove')
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                      AND d.objid = c.oid
                      AND d.deptype = 'e')
 ORDER BY n.nspname, c.relname
