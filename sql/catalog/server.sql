-- The server: version, settings that budgets are made from. Memory in bytes.
-- shared_preload_libraries is NULL for roles without pg_read_all_settings.
-- Columns: one row, named as in `Server` and `ServerSettings`. Oldest server: 12.
SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4 AS version_num,
       pg_catalog.current_setting('server_version') AS version,
       pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE') AS may_read_control,
       pg_catalog.pg_is_in_recovery() AS is_in_recovery,
       pg_catalog.current_setting('block_size')::pg_catalog.int8 AS block_size,
       (SELECT s.setting FROM pg_catalog.pg_settings s WHERE s.name = 'shared_preload_libraries')
           AS shared_preload_libraries,
       pg_catalog.current_setting('max_connections')::pg_catalog.int4 AS max_connections,
       -- reserved_connections: from 16.
       pg_catalog.current_setting('superuser_reserved_connections')::pg_catalog.int4
           + coalesce(pg_catalog.current_setting('reserved_connections', true)::pg_catalog.int4, 0)
           AS reserved_connections,
       pg_catalog.current_setting('max_worker_processes')::pg_catalog.int4 AS max_worker_processes,
       pg_catalog.current_setting('max_parallel_workers')::pg_catalog.int4 AS max_parallel_workers,
       pg_catalog.current_setting('max_parallel_maintenance_workers')::pg_catalog.int4
           AS max_parallel_maintenance_workers,
       pg_catalog.pg_size_bytes(pg_catalog.current_setting('maintenance_work_mem')) AS maintenance_work_mem,
       pg_catalog.pg_size_bytes(pg_catalog.current_setting('shared_buffers')) AS shared_buffers,
       pg_catalog.pg_size_bytes(pg_catalog.current_setting('max_wal_size')) AS max_wal_size,
       pg_catalog.current_setting('max_locks_per_transaction')::pg_catalog.int4 AS max_locks_per_transaction,
       pg_catalog.current_setting('max_prepared_transactions')::pg_catalog.int4 AS max_prepared_transactions,
       pg_catalog.current_setting('wal_level') AS wal_level,
       pg_catalog.current_setting('data_checksums') = 'on' AS data_checksums
