-- Purpose: whether a role may create in a schema.
-- Parameters: $1 text: the role; $2 text: the schema
-- Columns: may_create boolean
-- Oldest server: 14
SELECT pg_catalog.has_schema_privilege($1::pg_catalog.text::pg_catalog.name, $2::pg_catalog.text, 'CREATE') AS may_create
