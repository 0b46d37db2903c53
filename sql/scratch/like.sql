-- Purpose: what a database is made with, so that another one can be made like it.
-- Parameters: none
-- Columns: encoding, lc_collate, lc_ctype, tablespace text; provider text: libc, icu, builtin, NULL before 15;
--          locale, icu_rules text: NULL where the provider has none
-- Oldest server: 14
SELECT pg_catalog.pg_encoding_to_char(d.encoding)::pg_catalog.text AS encoding,
       d.datcollate::pg_catalog.text AS lc_collate,
       d.datctype::pg_catalog.text AS lc_ctype,
       t.spcname::pg_catalog.text AS tablespace,
       CASE j.fields ->> 'datlocprovider' WHEN 'c' THEN 'libc' WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' END AS provider,
       -- daticulocale: 15 and 16; datlocale: from 17.
       coalesce(j.fields ->> 'datlocale', j.fields ->> 'daticulocale') AS locale,
       j.fields ->> 'daticurules' AS icu_rules
  FROM pg_catalog.pg_database d
  JOIN pg_catalog.pg_tablespace t ON t.oid = d.dattablespace
 CROSS JOIN LATERAL (SELECT pg_catalog.to_jsonb(d) AS fields) j
 WHERE d.datname = pg_catalog.current_database()
