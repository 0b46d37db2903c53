-- Purpose: the search_path that a session of this role in this database has before anything sets it.
-- Parameters: none
-- Columns: search_path text
-- Oldest server: 12
SELECT reset_val AS search_path FROM pg_catalog.pg_settings WHERE name = 'search_path';
