-- Purpose: what a scratch database takes of its server.
-- Parameters: $1 text: the database
-- Columns: database_bytes bigint; temporary_bytes bigint: all temporary files that its sessions ever wrote;
--          wal_position bigint: bytes of WAL that the whole server ever wrote
-- Oldest server: 14
SELECT pg_catalog.pg_database_size(d.oid) AS database_bytes,
       pg_catalog.pg_stat_get_db_temp_bytes(d.oid) AS temporary_bytes,
       pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), '0/0')::pg_catalog.int8 AS wal_position
  FROM pg_catalog.pg_database d
 WHERE d.datname = $1
