-- Default privileges, one row for each role, schema and class of objects. Only a superuser or a member of the
-- role may set them.
-- Columns: role text, schema text (NULL: all schemas), objects text: as ALTER DEFAULT PRIVILEGES spells it.
-- Oldest server: 12.
SELECT pg_catalog.pg_get_userbyid(a.defaclrole)::pg_catalog.text AS role,
       n.nspname::pg_catalog.text AS schema,
       CASE a.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS'
                            WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' WHEN 'L' THEN 'LARGE OBJECTS'
                            ELSE a.defaclobjtype::pg_catalog.text END AS objects
  FROM pg_catalog.pg_default_acl a
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid = a.defaclnamespace
 ORDER BY 1, 2 NULLS FIRST, 3
