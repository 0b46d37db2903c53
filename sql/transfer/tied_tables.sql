-- Purpose: of some tables, those with triggers: rows that are loaded into them would fire these. A foreign key has
--          triggers on both of its tables; it also forbids TRUNCATE of the one that it refers to. Tables that are not
--          there have none.
-- Parameters: $1 text[]: quoted names with schema
-- Columns: name text
-- Oldest server: 14
SELECT found.name
FROM pg_catalog.unnest($1::text[]) AS found (name)
WHERE EXISTS (
    SELECT FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid = pg_catalog.to_regclass(found.name)
);
