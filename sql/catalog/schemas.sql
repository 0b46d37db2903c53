-- Schemas, less PostgreSQL's own and pgmove's.
-- Columns: named as in `Schema`. Oldest server: 12.
SELECT n.nspname AS name,
       pg_catalog.pg_get_userbyid(n.nspowner) AS owner,
       e.extname AS extension,
       ARRAY(SELECT h.extname
               FROM pg_catalog.pg_extension h
              WHERE h.extnamespace = n.oid
              ORDER BY h.extname) AS holds_extensions,
       pg_catalog.pg_has_role(n.nspowner, 'USAGE') AS is_owned,
       pg_catalog.has_schema_privilege(n.oid, 'USAGE') AS can_use,
       ARRAY(SELECT r.rolname
               FROM pg_catalog.pg_roles r
              WHERE (n.nspname = 'public' OR d.objid IS NOT NULL
                     OR EXISTS (SELECT FROM pg_catalog.pg_extension h WHERE h.extnamespace = n.oid))
                AND pg_catalog.has_schema_privilege(r.oid, n.oid, 'CREATE')
              ORDER BY r.rolname) AS creators
  FROM pg_catalog.pg_namespace n
  LEFT JOIN pg_catalog.pg_depend d
         ON d.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
        AND d.objid = n.oid
        AND d.deptype = 'e'
  LEFT JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
 WHERE n.nspname !~ '^pg_'
   AND n.nspname NOT IN ('information_schema', 'pgmove')
 ORDER BY n.nspname
