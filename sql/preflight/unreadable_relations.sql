-- Tables, materialised views and sequences whose rows or values the session's role cannot read in full. pg_dump
-- locks each table, which asks for SELECT on the whole table, not on columns. Row security counts as a reason
-- where it would apply to this role; superusers, roles with BYPASSRLS and (unless forced) owners are free of it.
-- Left out: temporary relations, system schemas, schema pgmove, members of extensions but their configuration.
-- Columns: kind text, name text (qualified, quoted where need be), owner text,
--          reason text: 'schema' (no USAGE), 'select', or 'row security'. Oldest server: 12.
WITH relation AS (
    SELECT c.oid, c.relkind, c.relname, n.nspname, c.relowner,
           CASE WHEN NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE') THEN 'schema'
                WHEN c.relkind = 'S' AND NOT pg_catalog.has_sequence_privilege(c.oid, 'SELECT')
                  OR c.relkind <> 'S' AND NOT pg_catalog.has_table_privilege(c.oid, 'SELECT') THEN 'select'
                WHEN c.relkind IN ('r', 'p') AND pg_catalog.row_security_active(c.oid) THEN 'row security'
           END AS reason
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'm', 'S')
       AND c.relpersistence <> 't'
       AND n.nspname !~ '^pg_'
       AND n.nspname NOT IN ('information_schema', 'pgmove')
       AND (NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                         WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
                           AND d.objsubid = 0 AND d.deptype = 'e')
            OR EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE c.oid = ANY (e.extconfig)))
)
SELECT CASE r.relkind WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence' ELSE 'table' END AS kind,
       pg_catalog.quote_ident(r.nspname) || '.' || pg_catalog.quote_ident(r.relname) AS name,
       pg_catalog.pg_get_userbyid(r.relowner)::pg_catalog.text AS owner,
       r.reason
  FROM relation r
 WHERE r.reason IS NOT NULL
 ORDER BY r.nspname, r.relname
