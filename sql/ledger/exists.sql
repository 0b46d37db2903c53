-- Purpose: tell whether the target holds a ledger of pgmove.
-- Parameters: none
-- Columns: exists boolean
-- Oldest server: 14
SELECT pg_catalog.to_regclass('pgmove.run') IS NOT NULL
   AND pg_catalog.to_regclass('pgmove.ledger') IS NOT NULL
   AND pg_catalog.to_regclass('pgmove.ledger_unlogged') IS NOT NULL AS "exists";
