-- Purpose: whether two indexes or two materialised views are defined alike, but for their names and their tables'.
-- Parameters: $1 text, $2 text: their qualified names, quoted
-- Columns: is_same boolean
-- Oldest server: 14
SELECT pg_catalog.count(DISTINCT CASE class.relkind
           WHEN 'm' THEN pg_catalog.pg_get_viewdef(class.oid)
           ELSE pg_catalog.substr(definition.text, pg_catalog.strpos(definition.text, ' USING '))
       END) OPERATOR(pg_catalog.=) 1
   AND pg_catalog.count(*) OPERATOR(pg_catalog.=) 2 AS is_same
FROM pg_catalog.pg_class AS class
CROSS JOIN LATERAL (SELECT pg_catalog.pg_get_indexdef(class.oid)) AS definition (text)
WHERE class.oid IN ($1::text::regclass, $2::text::regclass);
