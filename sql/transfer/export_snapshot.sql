-- Purpose: take the transaction's snapshot and give it a name for other sessions.
-- Parameters: none
-- Columns: id text
-- Oldest server: 12
SELECT pg_catalog.pg_export_snapshot() AS id;
