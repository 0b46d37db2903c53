-- Purpose: give this transaction's snapshot a name under which other sessions can import it.
-- Parameters: none
-- Columns: snapshot text
-- Oldest server: 12
SELECT pg_catalog.pg_export_snapshot() AS snapshot;
