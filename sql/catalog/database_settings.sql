-- Settings kept with the connected database, for every role (role NULL) or for one.
-- Columns: role name, name text, value text. Oldest server: 12.
SELECT r.rolname AS role,
       pg_catalog.split_part(s.item, '=', 1) AS name,
       pg_catalog.substr(s.item, pg_catalog.strpos(s.item, '=') + 1) AS value
  FROM pg_catalog.pg_db_role_setting k
  JOIN pg_catalog.pg_database d ON d.oid = k.setdatabase AND d.datname = pg_catalog.current_database()
 CROSS JOIN LATERAL pg_catalog.unnest(k.setconfig) s(item)
  LEFT JOIN pg_catalog.pg_roles r ON r.oid = k.setrole
 ORDER BY r.rolname NULLS FIRST, s.item
