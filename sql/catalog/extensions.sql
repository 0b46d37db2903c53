-- Extensions of the database.
-- Columns: named as in `Extension`, less its configuration. Oldest server: 12.
SELECT e.extname AS name,
       e.extversion AS version,
       n.nspname AS schema,
       pg_catalog.pg_get_userbyid(e.extowner) AS owner,
       ARRAY(SELECT r.extname
               FROM pg_catalog.pg_depend d
               JOIN pg_catalog.pg_extension r ON r.oid = d.refobjid
              WHERE d.classid = 'pg_catalog.pg_extension'::pg_catalog.regclass
                AND d.objid = e.oid
                AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
              ORDER BY r.extname) AS requires
  FROM pg_catalog.pg_extension e
  JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
 ORDER BY e.extname
