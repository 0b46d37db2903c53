-- The connected database. Columns that younger servers have are read through jsonb, NULL where missing:
-- datlocprovider and datcollversion from 15, daticulocale 15 and 16, datlocale from 17.
-- Columns: one row, named as in `Database`. Oldest server: 12.
SELECT d.oid,
       d.datname AS name,
       pg_catalog.pg_get_userbyid(d.datdba) AS owner,
       pg_catalog.pg_encoding_to_char(d.encoding) AS encoding,
       d.datcollate::pg_catalog.text AS collate,
       d.datctype::pg_catalog.text AS ctype,
       coalesce(j.fields ->> 'datlocprovider', 'c')::pg_catalog."char" AS locale_provider,
       coalesce(j.fields ->> 'datlocale', j.fields ->> 'daticulocale') AS locale,
       j.fields ->> 'datcollversion' AS collation_version,
       pg_catalog.shobj_description(d.oid, 'pg_database') AS comment,
       pg_catalog.pg_database_size(d.oid) AS size_bytes,
       d.datacl::pg_catalog.text[] AS acl
  FROM pg_catalog.pg_database d
 CROSS JOIN LATERAL (SELECT pg_catalog.to_jsonb(d) AS fields) j
 WHERE d.datname = pg_catalog.current_database()
