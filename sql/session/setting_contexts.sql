-- Purpose: who may set these settings ('user', 'superuser', ...); a setting the server does not know is left out.
-- Parameters: $1 text[]: names
-- Columns: name text, context text
-- Oldest server: 14
SELECT name, context FROM pg_catalog.pg_settings WHERE name = ANY ($1);
