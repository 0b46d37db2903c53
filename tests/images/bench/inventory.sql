-- What a move must bring: rows, valid indexes, constraints and analysed tables by name. Columns: kind, name, number.
-- PostgreSQL 14 and later.
SELECT 'rows of', c.oid::regclass::text,
       (xpath('/row/count/text()', query_to_xml('SELECT count(*) FROM ' || c.oid::regclass, false, true, '')))[1]::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND c.relkind = 'r'
UNION ALL
SELECT 'index', i.indexrelid::regclass::text, i.indisvalid::text
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public'
UNION ALL
SELECT 'constraint', conname, convalidated::text
FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace
WHERE n.nspname = 'public'
UNION ALL
-- An empty table has no statistics, whoever analyses it.
SELECT 'analysed', s.tablename, (count(*) > 0)::text
FROM pg_stats s
WHERE s.schemaname = 'public'
GROUP BY s.tablename
ORDER BY 1, 2;
