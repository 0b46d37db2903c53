-- The session's snapshot as xmin:xmax:xip,... by the older of its two names: pg_current_snapshot() gives the
-- same text, but only from 13.
-- Columns: snapshot text. Oldest server: 12.
SELECT pg_catalog.txid_current_snapshot()::pg_catalog.text AS snapshot
