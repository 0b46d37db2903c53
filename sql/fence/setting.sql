-- Purpose: the current database's own setting of default_transaction_read_only, for all roles.
-- Parameters: none
-- Columns: value text; no row where there is none
-- Oldest server: 12
SELECT pg_catalog.split_part(setting, '=', 2) AS value
FROM pg_catalog.pg_db_role_setting AS kept
JOIN pg_catalog.pg_database AS database ON database.oid OPERATOR(pg_catalog.=) kept.setdatabase
CROSS JOIN LATERAL pg_catalog.unnest(kept.setconfig) AS setting
WHERE database.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
  AND kept.setrole OPERATOR(pg_catalog.=) 0::oid
  AND pg_catalog.split_part(setting, '=', 1) OPERATOR(pg_catalog.=) 'default_transaction_read_only';
