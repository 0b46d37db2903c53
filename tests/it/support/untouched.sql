-- Purpose: what only a write changes: the versions of all catalog rows, counters of rows written, transaction ids.
-- Parameters: none; to be run by a superuser, on a server without autovacuum
-- Columns: line text
-- Oldest server: 13
SELECT 'snapshot ' || pg_current_snapshot()
UNION ALL
SELECT format('counters %s: %s %s %s %s', relid, n_tup_ins, n_tup_upd, n_tup_del, n_tup_hot_upd) FROM pg_stat_all_tables
WHERE n_tup_ins + n_tup_upd + n_tup_del > 0
UNION ALL
SELECT 'relations ' || md5(string_agg(c.xmin::text || c::text, '' ORDER BY c.oid)) FROM pg_class AS c
UNION ALL
SELECT 'columns ' || md5(string_agg(a.xmin::text || a::text, '' ORDER BY a.attrelid, a.attnum)) FROM pg_attribute AS a
UNION ALL
SELECT 'schemas ' || md5(string_agg(n.xmin::text || n::text, '' ORDER BY n.oid)) FROM pg_namespace AS n
UNION ALL
SELECT 'routines ' || md5(string_agg(p.xmin::text || p::text, '' ORDER BY p.oid)) FROM pg_proc AS p
UNION ALL
SELECT 'types ' || md5(string_agg(y.xmin::text || y::text, '' ORDER BY y.oid)) FROM pg_type AS y
UNION ALL
SELECT 'dependencies ' || md5(string_agg(d.xmin::text || d::text, '' ORDER BY d::text)) FROM pg_depend AS d
UNION ALL
SELECT 'settings ' || md5(string_agg(s.xmin::text || s::text, '' ORDER BY s::text)) FROM pg_db_role_setting AS s
UNION ALL
SELECT 'databases ' || md5(string_agg(d.xmin::text || d::text, '' ORDER BY d.oid)) FROM pg_database AS d
UNION ALL
SELECT 'roles ' || md5(string_agg(r.xmin::text || r::text, '' ORDER BY r.oid)) FROM pg_authid AS r
UNION ALL
SELECT 'large objects ' || count(*) FROM pg_largeobject_metadata;
