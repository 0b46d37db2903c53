-- Purpose: the ledger of a run in the target: which unit of work is committed, with its digest. Rows of unlogged
--          tables have theirs in an unlogged ledger, so that a crash empties both.
-- Parameters: none
-- Columns: none
-- Oldest server: 14
CREATE SCHEMA IF NOT EXISTS pgmove;
CREATE TABLE IF NOT EXISTS pgmove.run (
    id text PRIMARY KEY,
    started_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    sealed_at timestamptz
);
CREATE TABLE IF NOT EXISTS pgmove.ledger (
    item text PRIMARY KEY,
    row_count bigint,
    checksum text,
    committed_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
CREATE UNLOGGED TABLE IF NOT EXISTS pgmove.ledger_unlogged (LIKE pgmove.ledger INCLUDING ALL);
COMMENT ON SCHEMA pgmove IS 'A move by pgmove is under way or was interrupted; see "pgmove run --resume".';
