-- Purpose: remove the ledger from the target.
-- Parameters: none
-- Columns: none
-- Oldest server: 14
DROP SCHEMA IF EXISTS pgmove CASCADE;
