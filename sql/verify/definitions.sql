-- Purpose: what the server itself makes of the definitions in a schema, as one hash: if a statement leaves it as
--          it was, the statement says what was there already.
-- Parameters: $1 text: the schema
-- Columns: definitions text: SHA-256 of them all, in hexadecimal digits
-- Oldest server: 14
SELECT pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(
           coalesce(pg_catalog.string_agg(found.definition, E'\n' ORDER BY found.definition COLLATE "C"), ''), 'UTF8')),
           'hex') AS definitions
FROM pg_catalog.pg_namespace AS space
CROSS JOIN LATERAL (
    SELECT pg_catalog.concat_ws(' ', 'view', class.relname, class.reloptions::text, pg_catalog.pg_get_viewdef(class.oid))
    FROM pg_catalog.pg_class AS class
    WHERE class.relnamespace OPERATOR(pg_catalog.=) space.oid AND class.relkind::text IN ('v', 'm')
    UNION ALL
    SELECT pg_catalog.concat_ws(' ', 'rule', rule.ev_enabled, pg_catalog.pg_get_ruledef(rule.oid))
    FROM pg_catalog.pg_rewrite AS rule
    JOIN pg_catalog.pg_class AS class ON class.oid OPERATOR(pg_catalog.=) rule.ev_class
    WHERE class.relnamespace OPERATOR(pg_catalog.=) space.oid
      AND rule.rulename OPERATOR(pg_catalog.<>) '_RETURN'
    UNION ALL
    SELECT pg_catalog.concat_ws(' ', 'trigger', trigger.tgenabled, pg_catalog.pg_get_triggerdef(trigger.oid))
    FROM pg_catalog.pg_trigger AS trigger
    JOIN pg_catalog.pg_class AS class ON class.oid OPERATOR(pg_catalog.=) trigger.tgrelid
    WHERE class.relnamespace OPERATOR(pg_catalog.=) space.oid AND NOT trigger.tgisinternal
    UNION ALL
    SELECT pg_catalog.concat_ws(' ', 'policy', policy.polname, class.relname, policy.polcmd, policy.polpermissive,
               policy.polroles::text, pg_catalog.pg_get_expr(policy.polqual, policy.polrelid),
               'check', pg_catalog.pg_get_expr(policy.polwithcheck, policy.polrelid))
    FROM pg_catalog.pg_policy AS policy
    JOIN pg_catalog.pg_class AS class ON class.oid OPERATOR(pg_catalog.=) policy.polrelid
    WHERE class.relnamespace OPERATOR(pg_catalog.=) space.oid
    UNION ALL
    SELECT pg_catalog.concat_ws(' ', 'function', pg_catalog.pg_get_functiondef(function.oid))
    FROM pg_catalog.pg_proc AS function
    WHERE function.pronamespace OPERATOR(pg_catalog.=) space.oid AND function.prokind::text IN ('f', 'p')
) AS found (definition)
WHERE space.nspname OPERATOR(pg_catalog.=) $1::text;
