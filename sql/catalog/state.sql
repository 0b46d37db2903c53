-- What tells one state of the database from another. txid_current_snapshot() is the older of its two names:
-- pg_current_snapshot() gives the same text, but only from 13. The server's statistics are kept over a restart, and
-- thrown away by the recovery from a crash, which also empties unlogged tables and loses asynchronous commits.
-- Columns: snapshot text, statistics_reset text. Oldest server: 12.
SELECT pg_catalog.txid_current_snapshot()::pg_catalog.text AS snapshot,
       (SELECT pg_catalog.date_part('epoch', s.stats_reset)::pg_catalog.text FROM pg_catalog.pg_stat_bgwriter s)
           AS statistics_reset
