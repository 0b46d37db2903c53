-- The pieces of all tables, largest first. Columns: table, first block, block after the last. PostgreSQL 14 and later.
WITH found AS (
  SELECT c.oid::regclass AS name, pg_table_size(c.oid) AS bytes, pg_relation_size(c.oid) / 8192 AS blocks,
         greatest(1, ceil(pg_table_size(c.oid) / (128 * 1024 * 1024.0)))::bigint AS pieces
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = 'public' AND c.relkind = 'r'
)
SELECT name, blocks * piece / pieces, CASE WHEN piece + 1 = pieces THEN 4294967295 ELSE blocks * (piece + 1) / pieces END
FROM found, generate_series(0, pieces - 1) AS piece
ORDER BY bytes / pieces DESC, name, piece;
