-- Purpose: record whose ledger this is.
-- Parameters: $1 text: the run's id
-- Columns: none
-- Oldest server: 14
INSERT INTO pgmove.run (id) VALUES ($1) ON CONFLICT (id) DO NOTHING;
