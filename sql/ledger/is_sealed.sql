-- Purpose: whether the last write of the run before its verdict is there: not on a replica that lagged and took over.
-- Parameters: none
-- Columns: is_sealed boolean
-- Oldest server: 14
SELECT coalesce(pg_catalog.bool_and(sealed_at IS NOT NULL), false) AS is_sealed FROM pgmove.run;
