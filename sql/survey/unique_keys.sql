-- Unique indexes of tables, primary keys among them, with what a query needs to find duplicates that they hide. Those
-- that no query may use are left out: pg_dump does so too.
-- Columns: schema, table_name, name text; keys text[]: an expression for each key, in the index's collation;
--          predicate text: of a partial index; nulls_are_equal boolean: NULLS NOT DISTINCT, from 15; is_plain boolean:
--          whether its keys are equal where GROUP BY says so. Oldest server: 12.
SELECT n.nspname::pg_catalog.text AS schema,
       t.relname::pg_catalog.text AS table_name,
       i.relname::pg_catalog.text AS name,
       ARRAY(SELECT pg_catalog.concat(
                        pg_catalog.pg_get_indexdef(i.oid, k, false),
                        ' COLLATE ' || pg_catalog.quote_ident(cn.nspname) || '.' || pg_catalog.quote_ident(c.collname))
               FROM pg_catalog.generate_series(1, x.indnkeyatts) k
               LEFT JOIN pg_catalog.pg_collation c ON c.oid = x.indcollation[k - 1]
               LEFT JOIN pg_catalog.pg_namespace cn ON cn.oid = c.collnamespace
              ORDER BY k) AS keys,
       pg_catalog.pg_get_expr(x.indpred, x.indrelid) AS predicate,
       coalesce(pg_catalog.to_jsonb(x) ->> 'indnullsnotdistinct' = 'true', false) AS nulls_are_equal,
       NOT EXISTS (SELECT FROM pg_catalog.unnest(x.indclass::pg_catalog.oid[]) class(oid)
                     JOIN pg_catalog.pg_opclass o ON o.oid = class.oid
                    WHERE NOT o.opcdefault AND o.opcname !~ '_pattern_ops$') AS is_plain
  FROM pg_catalog.pg_index x
  JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
  JOIN pg_catalog.pg_class t ON t.oid = x.indrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
 WHERE x.indisunique
   AND x.indisvalid
   AND x.indisready
   AND t.relkind = 'r'
   AND t.relpersistence <> 't'
   AND n.nspname !~ '^pg_'
   AND n.nspname NOT IN ('information_schema', 'pgmove')
 ORDER BY n.nspname, t.relname, i.relname
