-- Purpose: end a session. Fails for a superuser's session unless one asks.
-- Parameters: $1 integer: its process
-- Columns: is_sent boolean
-- Oldest server: 12
SELECT pg_catalog.pg_terminate_backend($1) AS is_sent;
