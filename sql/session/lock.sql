-- Purpose: keep a second run out of this database as long as the session lasts. The key is pgmove's own: the
--          first eight bytes of SHA-256('pgmove').
-- Parameters: none
-- Columns: is_locked boolean
-- Oldest server: 14
SELECT pg_catalog.pg_try_advisory_lock(8531806370865099640) AS is_locked;
