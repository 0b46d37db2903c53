-- Purpose: the server's clock, by which it also notes when a session began.
-- Parameters: none
-- Columns: now text
-- Oldest server: 12
SELECT pg_catalog.clock_timestamp()::text AS now;
