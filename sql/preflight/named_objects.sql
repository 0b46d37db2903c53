-- Objects that a move treats apart, by name: those that need a superuser on the target, and those that may hold
-- a password and are therefore not carried. Event triggers of extensions come with these and are left out.
-- Columns: kind text, name text, detail text (of a server: its wrapper; of a user mapping: its server; of a
--          wrapper: 'usable' where the session's role has USAGE, else ''; of a publication that
--          only a superuser may make: 'all tables' or 'tables in schema'; of the others: ''). Oldest server: 12.
SELECT 'event trigger' AS kind, t.evtname::pg_catalog.text AS name, '' AS detail
  FROM pg_catalog.pg_event_trigger t
 WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                    WHERE d.classid = 'pg_catalog.pg_event_trigger'::pg_catalog.regclass AND d.objid = t.oid
                      AND d.deptype = 'e')
 UNION ALL
SELECT 'foreign data wrapper', w.fdwname,
       CASE WHEN pg_catalog.has_foreign_data_wrapper_privilege(w.oid, 'USAGE') THEN 'usable' ELSE '' END
  FROM pg_catalog.pg_foreign_data_wrapper w
 UNION ALL
SELECT 'foreign server', s.srvname, w.fdwname
  FROM pg_catalog.pg_foreign_server s
  JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw
 UNION ALL
SELECT 'publication', p.pubname,
       CASE WHEN p.puballtables THEN 'all tables'
            -- That catalog exists from 15 on.
            WHEN EXISTS (SELECT FROM pg_catalog.pg_depend d
                          WHERE d.classid = pg_catalog.to_regclass('pg_catalog.pg_publication_namespace')
                            AND d.refclassid = 'pg_catalog.pg_publication'::pg_catalog.regclass
                            AND d.refobjid = p.oid) THEN 'tables in schema'
            ELSE '' END
  FROM pg_catalog.pg_publication p
 UNION ALL
SELECT 'subscription', s.subname, ''
  FROM pg_catalog.pg_subscription s
  JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
 WHERE d.datname = pg_catalog.current_database()
 UNION ALL
SELECT 'user mapping', m.usename, m.srvname
  FROM pg_catalog.pg_user_mappings m
 ORDER BY kind, name, detail
