-- Purpose: one statement that describes what the database holds, for comparison with another: rows of each table as a
--          count and a sum of hashes (columns by name, so their order does not count; embeddings as real[]), values of
--          sequences, large objects, and the kinds and names of all objects.
-- Parameters: none; to be run by a superuser with search_path pg_catalog
-- Columns: statement text, whose rows are lines
-- Oldest server: 12
WITH own AS (
    SELECT c.oid, c.relkind, n.nspname, c.relname, c.relispopulated
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'vectors', 'pgmove')
      AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e')
), rows AS (
    SELECT format(
        'SELECT %L || count(*) || '' '' || coalesce(sum((''x'' || left(md5(ROW(%s)::text), 16))::bit(64)::bigint), 0) FROM ONLY %I.%I AS t',
        'rows ' || nspname || '.' || relname || ': ',
        (SELECT string_agg(
                    CASE WHEN y.typname = 'vector' THEN format('t.%I::real[]', a.attname) ELSE format('t.%I', a.attname) END,
                    ', ' ORDER BY a.attname)
         FROM pg_attribute AS a JOIN pg_type AS y ON y.oid = a.atttypid
         WHERE a.attrelid = own.oid AND a.attnum > 0 AND NOT a.attisdropped),
        nspname, relname) AS statement
    FROM own WHERE relkind = 'r' OR relkind = 'm' AND relispopulated
), sequences AS (
    SELECT format('SELECT %L || last_value || '' '' || is_called FROM %I.%I', 'sequence ' || nspname || '.' || relname || ': ', nspname, relname)
    FROM own WHERE relkind = 'S'
)
SELECT string_agg(statement, E'\nUNION ALL ')
FROM (
    SELECT statement FROM rows
    UNION ALL SELECT * FROM sequences
    UNION ALL VALUES
    ($$SELECT 'large object ' || oid || ': ' || md5(lo_get(oid)) FROM pg_largeobject_metadata$$),
    ($$SELECT format('relation %s.%s: %s, %s, valid %s, populated %s', n.nspname, c.relname,
                     CASE c.relkind WHEN 'I' THEN 'i' ELSE c.relkind END, c.relpersistence, coalesce(i.indisvalid, true), c.relispopulated)
       FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace LEFT JOIN pg_index AS i ON i.indexrelid = c.oid
       WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'vectors', 'pgmove') AND c.relkind <> 'c'
         AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e')$$),
    ($$SELECT format('column %s.%s.%s: %s, %s, %s, %s, %s', n.nspname, c.relname, a.attname,
                     regexp_replace(format_type(a.atttypid, a.atttypmod), '^(vectors|public)\.vector', 'vector'),
                     a.attnotnull, a.attidentity, a.attgenerated, a.atthasdef)
       FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
       WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'c', 'f')
         AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'vectors', 'pgmove')
         AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e')$$),
    ($$SELECT format('constraint %s on %s: %s, validated %s', k.conname, k.conrelid::regclass, k.contype, k.convalidated)
       FROM pg_constraint AS k JOIN pg_namespace AS n ON n.oid = k.connamespace
       WHERE k.contype <> 'n' AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'vectors', 'pgmove')
         AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = k.contypid AND d.classid = 'pg_type'::regclass AND d.deptype = 'e')$$),
    ($$SELECT format('trigger %s on %s: %s', tgname, tgrelid::regclass, tgenabled) FROM pg_trigger WHERE NOT tgisinternal$$),
    ($$SELECT format('policy %s on %s', polname, polrelid::regclass) FROM pg_policy$$),
    ($$SELECT format('rule %s on %s', rulename, ev_class::regclass) FROM pg_rewrite AS r JOIN pg_class AS c ON c.oid = ev_class JOIN pg_namespace AS n ON n.oid = c.relnamespace
       WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'vectors', 'pgmove')
         AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e')$$),
    ($$SELECT format('routine %s: %s', p.oid::regprocedure, md5(p.prosrc)) FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
       WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'vectors', 'pgmove')
         AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e')$$),
    ($$SELECT format('label %s of %s.%s', string_agg(e.enumlabel, ', ' ORDER BY e.enumsortorder), n.nspname, y.typname)
       FROM pg_enum AS e JOIN pg_type AS y ON y.oid = e.enumtypid JOIN pg_namespace AS n ON n.oid = y.typnamespace
       GROUP BY n.nspname, y.typname$$),
    ($$SELECT format('comment on %s: %s', pg_describe_object(d.classoid, d.objoid, d.objsubid), md5(d.description))
       FROM pg_description AS d WHERE d.objoid >= 16384 AND d.classoid <> 'pg_extension'::regclass
         AND NOT EXISTS (SELECT FROM pg_depend AS e WHERE e.objid = d.objoid AND e.classid = d.classoid AND e.deptype = 'e')$$)
) AS parts (statement);
