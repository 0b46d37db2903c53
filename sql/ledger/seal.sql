-- Purpose: the last write of a run before its verdict. Lanes do not wait for their commits to reach the disk; this
--          one does, and makes all before it durable. A server that does not have it any more has lost what came last.
-- Parameters: none
-- Columns: none
-- Oldest server: 14
UPDATE pgmove.run SET sealed_at = pg_catalog.now();
