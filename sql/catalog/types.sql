-- Types that columns reach: base types of domains, elements of arrays, attributes of composites, subtypes of
-- ranges, ranges of multiranges. pg_range.rngmultitypid exists from 14 and is read through jsonb.
-- A true array is a base type of variable length with an element; `point` has one too, but a fixed length.
-- Columns: oid, schema, name, kind (typtype), category, base, modifier, element, attribute_names,
-- attribute_types, subtype, range, send, send_schema, send_name, receive, receive_schema, receive_name (OIDs 0
-- for none), extension. Oldest server: 12.
WITH RECURSIVE multirange AS MATERIALIZED (
    SELECT (pg_catalog.to_jsonb(g) ->> 'rngmultitypid')::pg_catalog.oid AS oid, g.rngtypid AS range
      FROM pg_catalog.pg_range g
), reachable(oid) AS (
    SELECT a.atttypid
      FROM pg_catalog.pg_attribute a
      JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'f', 'm')
       AND a.attnum > 0
       AND NOT a.attisdropped
       AND n.nspname !~ '^pg_'
       AND n.nspname NOT IN ('information_schema', 'pgmove')
     UNION
    SELECT part.oid
      FROM reachable r
      JOIN pg_catalog.pg_type t ON t.oid = r.oid
     CROSS JOIN LATERAL (
            SELECT t.typbasetype AS oid WHERE t.typtype = 'd'
             UNION ALL
            SELECT t.typelem WHERE t.typtype = 'b' AND t.typelem <> 0 AND t.typlen = -1
             UNION ALL
            SELECT a.atttypid
              FROM pg_catalog.pg_attribute a
             WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
             UNION ALL
            SELECT g.rngsubtype FROM pg_catalog.pg_range g WHERE t.typtype = 'r' AND g.rngtypid = t.oid
             UNION ALL
            SELECT m.range FROM multirange m WHERE t.typtype = 'm' AND m.oid = t.oid
           ) part
)
SELECT t.oid,
       n.nspname AS schema,
       t.typname AS name,
       t.typtype AS kind,
       t.typcategory AS category,
       t.typbasetype AS base,
       t.typtypmod AS modifier,
       CASE WHEN t.typtype = 'b' AND t.typlen = -1 THEN t.typelem ELSE 0 END AS element,
       ARRAY(SELECT a.attname
               FROM pg_catalog.pg_attribute a
              WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
              ORDER BY a.attnum) AS attribute_names,
       ARRAY(SELECT a.atttypid
               FROM pg_catalog.pg_attribute a
              WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
              ORDER BY a.attnum) AS attribute_types,
       coalesce(g.rngsubtype, 0) AS subtype,
       coalesce(m.range, 0) AS range,
       t.typsend::pg_catalog.oid AS send,
       send_schema.nspname AS send_schema,
       send.proname AS send_name,
       t.typreceive::pg_catalog.oid AS receive,
       receive_schema.nspname AS receive_schema,
       receive.proname AS receive_name,
       e.extname AS extension
  FROM reachable r
  JOIN pg_catalog.pg_type t ON t.oid = r.oid
  JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
  LEFT JOIN pg_catalog.pg_range g ON g.rngtypid = t.oid
  LEFT JOIN multirange m ON m.oid = t.oid
  LEFT JOIN pg_catalog.pg_proc send ON send.oid = t.typsend
  LEFT JOIN pg_catalog.pg_namespace send_schema ON send_schema.oid = send.pronamespace
  LEFT JOIN pg_catalog.pg_proc receive ON receive.oid = t.typreceive
  LEFT JOIN pg_catalog.pg_namespace receive_schema ON receive_schema.oid = receive.pronamespace
  -- An array and a table's row type are no members themselves; their element and their table are.
  LEFT JOIN LATERAL (
        SELECT d.refobjid
          FROM pg_catalog.pg_depend d
         WHERE d.deptype = 'e'
           AND (d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.objid IN (t.oid, t.typelem)
                OR d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = t.typrelid)
         LIMIT 1
       ) member ON true
  LEFT JOIN pg_catalog.pg_extension e ON e.oid = member.refobjid
 ORDER BY t.oid
