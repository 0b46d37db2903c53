-- All roles. is_member: the session's role may SET ROLE to it (from 16 a right apart from membership) and has its
-- rights without that. can_create: in the database.
-- Columns: named as in `Role`. Oldest server: 12.
SELECT r.rolname AS name,
       r.rolsuper AS is_superuser,
       r.rolcanlogin AS can_login,
       pg_catalog.pg_has_role(
           r.oid,
           CASE WHEN pg_catalog.current_setting('server_version_num')::pg_catalog.int4 >= 160000
                THEN 'SET' ELSE 'MEMBER' END
       ) AND pg_catalog.pg_has_role(r.oid, 'USAGE') AS is_member,
       pg_catalog.has_database_privilege(r.oid, pg_catalog.current_database(), 'CREATE') AS can_create
  FROM pg_catalog.pg_roles r
 ORDER BY r.rolname
