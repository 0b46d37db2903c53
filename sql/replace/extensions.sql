-- Purpose: the extensions of the database; a drop must not take one along.
-- Parameters: none
-- Columns: extensions text[]
-- Oldest server: 14
SELECT ARRAY(SELECT extname::text FROM pg_catalog.pg_extension ORDER BY extname) AS extensions;
