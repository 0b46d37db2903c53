-- Purpose: whether two indexes or two materialised views are defined alike, but for their names, their tables' and
--          their tablespaces.
-- Parameters: $1 text, $2 text: their qualified names, quoted
-- Columns: is_same boolean
-- Oldest server: 14
SELECT pg_catalog.count(DISTINCT ROW(
           class.reloptions,
           toast.reloptions,
           -- It stands before the names, and so in the part of the text that is cut off.
           index.indisunique,
           CASE class.relkind
               WHEN 'm' THEN pg_catalog.pg_get_viewdef(class.oid)
               ELSE pg_catalog.substr(definition.text, pg_catalog.strpos(definition.text, ' USING '))
           END)::text) OPERATOR(pg_catalog.=) 1
   AND pg_catalog.count(*) OPERATOR(pg_catalog.=) 2 AS is_same
FROM pg_catalog.pg_class AS class
LEFT JOIN pg_catalog.pg_class AS toast ON toast.oid OPERATOR(pg_catalog.=) class.reltoastrelid
LEFT JOIN pg_catalog.pg_index AS index ON index.indexrelid OPERATOR(pg_catalog.=) class.oid
CROSS JOIN LATERAL (SELECT pg_catalog.pg_get_indexdef(class.oid)) AS definition (text)
WHERE class.oid IN ($1::text::regclass, $2::text::regclass);
