-- Objects that a move treats apart, counted.
-- Columns: one row, named as in `SpecialObjects`. Oldest server: 12.
SELECT (SELECT pg_catalog.count(*) FROM pg_catalog.pg_publication) AS publications,
       (SELECT pg_catalog.count(*)
          FROM pg_catalog.pg_subscription s
          JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
         WHERE d.datname = pg_catalog.current_database()) AS subscriptions,
       (SELECT pg_catalog.count(*) FROM pg_catalog.pg_event_trigger) AS event_triggers,
       (SELECT pg_catalog.count(*) FROM pg_catalog.pg_foreign_server) AS foreign_servers,
       (SELECT pg_catalog.count(*) FROM pg_catalog.pg_user_mappings) AS user_mappings,
       (SELECT pg_catalog.count(*)
          FROM pg_catalog.pg_prepared_xacts x
         WHERE x.database = pg_catalog.current_database()) AS prepared_transactions,
       ARRAY(SELECT DISTINCT t.spcname
               FROM pg_catalog.pg_class c
               JOIN pg_catalog.pg_tablespace t ON t.oid = c.reltablespace
              WHERE t.spcname <> 'pg_global'
              ORDER BY t.spcname) AS tablespaces
