-- Purpose: how far the index builds of these processes are. vchordrq's total is that of an empty index, so
--          blocks are asked first; its own percentage stands in the name of the phase.
-- Parameters: $1 integer[]: processes
-- Columns: pid integer, phase text, percent double precision (NULL where the server does not tell)
-- Oldest server: 14
SELECT pid,
       phase,
       CASE
           WHEN blocks_total > 0 THEN 100.0::double precision * blocks_done / blocks_total
           WHEN tuples_total > 0 THEN 100.0::double precision * tuples_done / tuples_total
       END AS percent
FROM pg_catalog.pg_stat_progress_create_index
WHERE pid = ANY ($1);
