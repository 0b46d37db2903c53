-- Purpose: every committed unit of work of the run.
-- Parameters: none
-- Columns: item text, row_count bigint, checksum text
-- Oldest server: 14
SELECT item, row_count, checksum FROM pgmove.ledger
UNION ALL
SELECT item, row_count, checksum FROM pgmove.ledger_unlogged;
