-- Purpose: pin every setting that changes what a value looks like, what a statement means, or how long it may
--          take, whatever the defaults of server, database and role are. Settings a server does not know are
--          left out, so one statement serves every major. No lock is waited for longer than half a minute: also
--          the functions that measure a table wait for one that is locked.
-- Parameters: $1 text: search_path; $2 text: default_transaction_read_only, 'on' or 'off';
--             $3 text: application_name
-- Columns: process integer: the server's process behind the session; settings bigint: how many were changed
-- Oldest server: 12
SELECT pg_catalog.pg_backend_pid() AS process,
       pg_catalog.count(pg_catalog.set_config(setting.name, pinned.value, false)) AS settings
FROM (VALUES
    ('client_encoding', 'UTF8'),
    ('TimeZone', 'UTC'),
    ('DateStyle', 'ISO, MDY'),
    ('IntervalStyle', 'postgres'),
    ('extra_float_digits', '3'),
    ('bytea_output', 'hex'),
    ('lc_monetary', 'C'),
    ('xmlbinary', 'base64'),
    ('xmloption', 'content'),
    ('standard_conforming_strings', 'on'),
    ('check_function_bodies', 'off'),
    ('default_tablespace', ''),
    ('default_transaction_isolation', 'read committed'),
    ('default_transaction_deferrable', 'off'),
    ('row_security', 'off'),
    ('session_replication_role', 'origin'),
    ('synchronize_seqscans', 'off'),
    ('jit', 'off'),
    ('statement_timeout', '0'),
    ('lock_timeout', '30000'),
    ('transaction_timeout', '0'),
    ('idle_session_timeout', '0'),
    ('idle_in_transaction_session_timeout', '0'),
    ('application_name', $3::text),
    ('search_path', $1::text),
    ('default_transaction_read_only', $2::text)
) AS pinned (name, value)
JOIN pg_catalog.pg_settings AS setting
  ON pg_catalog.lower(setting.name) OPERATOR(pg_catalog.=) pg_catalog.lower(pinned.name)
-- session_replication_role may be set by superusers only; where it is 'origin' there is nothing to pin.
WHERE setting.setting OPERATOR(pg_catalog.<>) pinned.value;
