-- Owners of large objects. has_largeobject_privilege() exists from 18 only, so rights are looked up in the ACL;
-- a NULL ACL gives nothing to anyone but the owner.
-- Columns: owner text, count int8, unreadable int8: how many of them the session's role cannot read.
-- Oldest server: 12.
SELECT pg_catalog.pg_get_userbyid(m.lomowner)::pg_catalog.text AS owner,
       pg_catalog.count(*) AS count,
       pg_catalog.count(*) FILTER (
           WHERE NOT pg_catalog.pg_has_role(m.lomowner, 'USAGE')
             AND NOT EXISTS (SELECT FROM pg_catalog.aclexplode(m.lomacl) p
                              WHERE p.privilege_type = 'SELECT'
                                AND (p.grantee = 0 OR pg_catalog.pg_has_role(p.grantee, 'USAGE')))
       ) AS unreadable
  FROM pg_catalog.pg_largeobject_metadata m
 GROUP BY m.lomowner
 ORDER BY 1
