-- The cluster's identity. Asked only where the function is granted: permission is checked when a statement
-- starts, so no CASE could guard it.
-- Columns: system_identifier text. Oldest server: 12.
SELECT c.system_identifier::pg_catalog.text AS system_identifier
  FROM pg_catalog.pg_control_system() c
