-- Purpose: the server's scratch databases, by their name; those that somebody works in, or whose process is there still, too.
-- Parameters: $1 text: the setting that marks them
-- Columns: name text; is_marked boolean: whether it has that setting, which comes right after the database; is_used boolean
-- Oldest server: 14
SELECT d.datname::pg_catalog.text AS name,
       EXISTS (
           SELECT FROM pg_catalog.pg_db_role_setting s
            CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) AS items (item)
            WHERE s.setdatabase = d.oid AND s.setrole = 0 AND pg_catalog.split_part(items.item, '=', 1) = $1::pg_catalog.text
       ) AS is_marked,
       EXISTS (
           SELECT FROM pg_catalog.pg_stat_activity a
            WHERE a.datid = d.oid
               -- 'pgmove_' and the run's id, in which a database's name has '_' for '-'.
               OR a.application_name
                  = 'pgmove ' || pg_catalog.replace(pg_catalog.substr(d.datname::pg_catalog.text, 8), '_', '-')
       ) AS is_used
  FROM pg_catalog.pg_database d
 WHERE d.datname ~ '^pgmove_[0-9]{8}_[0-9]{6}_[0-9a-f]{6}$'
 ORDER BY d.datname
