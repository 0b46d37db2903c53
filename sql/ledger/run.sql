-- Purpose: the run whose ledger this is.
-- Parameters: none
-- Columns: id text
-- Oldest server: 14
SELECT id FROM pgmove.run ORDER BY started_at DESC LIMIT 1;
