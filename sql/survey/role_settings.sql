-- Settings that roles have in every database (ALTER ROLE ... SET). Values are left out: one could be a password.
-- Columns: role text, setting text. Oldest server: 12.
SELECT r.rolname::pg_catalog.text AS role,
       pg_catalog.split_part(s.item, '=', 1) AS setting
  FROM pg_catalog.pg_db_role_setting k
  JOIN pg_catalog.pg_roles r ON r.oid = k.setrole
 CROSS JOIN LATERAL pg_catalog.unnest(k.setconfig) s(item)
 WHERE k.setdatabase = 0
 ORDER BY 1, 2
