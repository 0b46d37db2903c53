-- Purpose: the last write of a run before its verdict. Lanes do not wait for their commits to reach the disk; this
--          one does, and makes all before it durable.
-- Parameters: none
-- Columns: none
-- Oldest server: 14
UPDATE pgmove.run SET started_at = started_at;
