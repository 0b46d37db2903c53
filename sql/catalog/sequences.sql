-- The user's sequences, identity sequences and configuration sequences of extensions among them.
-- Columns: named as in `Sequence`. Oldest server: 12.
WITH configuration AS (
    SELECT k.oid, e.extname AS extension, coalesce(k.condition, '') AS condition
      FROM pg_catalog.pg_extension e
     CROSS JOIN LATERAL ROWS FROM (
                pg_catalog.unnest(e.extconfig), pg_catalog.unnest(e.extcondition)
           ) k(oid, condition)
)
SELECT c.oid,
       n.nspname AS schema,
       c.relname AS name,
       pg_catalog.pg_get_userbyid(c.relowner) AS owner,
       pg_catalog.format_type(s.seqtypid, NULL) AS data_type,
       tn.nspname AS table_schema,
       t.relname AS table_name,
       a.attname AS column_name,
       -- 'i' for an identity column, 'a' for OWNED BY.
       coalesce(owned.deptype = 'i', false) AS is_identity,
       configuration.extension,
       configuration.condition
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_sequence s ON s.seqrelid = c.oid
  LEFT JOIN pg_catalog.pg_depend owned
         ON owned.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
        AND owned.objid = c.oid
        AND owned.objsubid = 0
        AND owned.deptype IN ('a', 'i')
        AND owned.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
        AND owned.refobjsubid > 0
  LEFT JOIN pg_catalog.pg_class t ON t.oid = owned.refobjid
  LEFT JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
  LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum = owned.refobjsubid
  LEFT JOIN pg_catalog.pg_depend member
         ON member.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
        AND member.objid = c.oid
        AND member.objsubid = 0
        AND member.deptype = 'e'
  LEFT JOIN configuration ON configuration.oid = c.oid
 WHERE c.relkind = 'S'
   AND c.relpersistence <> 't'
   AND n.nspname !~ '^pg_'
   AND n.nspname NOT IN ('information_schema', 'pgmove')
   AND (member.objid IS NULL OR configuration.oid IS NOT NULL)
 ORDER BY n.nspname, c.relname
