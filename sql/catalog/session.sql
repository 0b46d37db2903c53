-- What the session's current role may do.
-- Columns: one row, named as in `SessionRights`. Oldest server: 12.
SELECT r.rolname AS role,
       r.rolsuper AS is_superuser,
       r.rolcreatedb OR r.rolsuper AS can_create_database,
       r.rolbypassrls OR r.rolsuper AS bypasses_row_security,
       pg_catalog.pg_has_role(d.datdba, 'USAGE') AS owns_database,
       pg_catalog.has_database_privilege(d.oid, 'CREATE') AS can_create_in_database,
       (SELECT pg_catalog.has_schema_privilege(n.oid, 'CREATE')
          FROM pg_catalog.pg_namespace n
         WHERE n.nspname = 'public') AS can_create_in_public
  FROM pg_catalog.pg_roles r
 CROSS JOIN pg_catalog.pg_database d
 WHERE r.rolname = current_user
   AND d.datname = pg_catalog.current_database()
