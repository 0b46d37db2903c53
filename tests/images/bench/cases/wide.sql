-- Case (c): :rows rows of about 1 kB in one table.
CREATE TABLE document (id bigint PRIMARY KEY, moment timestamptz NOT NULL, body text NOT NULL);
INSERT INTO document
SELECT n, '2020-01-01 00:00+00'::timestamptz + n * interval '1 s',
       (SELECT string_agg(md5(n || '-' || part), '') FROM generate_series(1, 30) AS part)
FROM generate_series(1, :rows) AS n;
VACUUM (FREEZE, ANALYZE) document;
