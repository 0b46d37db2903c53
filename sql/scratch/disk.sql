-- Purpose: what WAL and temporary files take on the server's disk at this moment, whoever has written them. The temporary
--          files of parallel workers are in directories of their own (*.fileset), which pg_ls_tmpdir does not enter.
-- Parameters: none
-- Columns: wal_bytes bigint; temporary_bytes bigint
-- Oldest server: 14
-- Only for superusers.
WITH place (path) AS (
        SELECT 'base/pgsql_tmp'
         UNION ALL
        SELECT pg_catalog.format('pg_tblspc/%s/%s/pgsql_tmp', t.oid, version.name)
          FROM pg_catalog.pg_tablespace t,
               pg_catalog.pg_ls_dir('pg_tblspc/' || t.oid::pg_catalog.text, true, false) AS version (name)
         WHERE t.spcname NOT IN ('pg_default', 'pg_global')
     ),
     entry AS (
        SELECT place.path || '/' || file.name AS path, found.size, found.isdir
          FROM place,
               pg_catalog.pg_ls_dir(place.path, true, false) AS file (name),
               pg_catalog.pg_stat_file(place.path || '/' || file.name, true) AS found
     ),
     file (size) AS (
        SELECT size FROM entry WHERE NOT isdir
         UNION ALL
        SELECT found.size
          FROM entry,
               pg_catalog.pg_ls_dir(entry.path, true, false) AS file (name),
               pg_catalog.pg_stat_file(entry.path || '/' || file.name, true) AS found
         WHERE entry.isdir
     )
SELECT (SELECT pg_catalog.sum(w.size)::pg_catalog.int8 FROM pg_catalog.pg_ls_waldir() w) AS wal_bytes,
       (SELECT COALESCE(pg_catalog.sum(f.size), 0)::pg_catalog.int8 FROM file f) AS temporary_bytes
