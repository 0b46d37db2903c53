-- Purpose: the hash of one piece of each of these large objects; they stay on their server.
-- Parameters: $1 oid[]; $2 bigint: offset in bytes; $3 integer: length in bytes
-- Columns: oid oid; length integer: how much of the piece there is, 0 behind the end; hash bytea: its SHA-256
-- Oldest server: 12
SELECT wanted.oid,
       pg_catalog.octet_length(piece.bytes) AS length,
       pg_catalog.sha256(piece.bytes) AS hash
FROM pg_catalog.unnest($1::oid[]) AS wanted (oid)
CROSS JOIN LATERAL pg_catalog.lo_get(wanted.oid, $2::bigint, $3::integer) AS piece (bytes);
