-- Extensions that the server offers, at their default version. `trusted` exists from 13 and is read through
-- jsonb, false where missing.
-- Columns: named as in `AvailableExtension`. Oldest server: 12.
WITH version AS MATERIALIZED (
    SELECT v.*, pg_catalog.to_jsonb(v) ->> 'trusted' AS is_trusted
      FROM pg_catalog.pg_available_extension_versions v
)
SELECT a.name,
       a.default_version,
       a.installed_version,
       coalesce(d.superuser, true) AS needs_superuser,
       coalesce(d.is_trusted = 'true', false) AS is_trusted,
       coalesce(d.relocatable, false) AS is_relocatable,
       d.schema,
       coalesce(d.requires, '{}') AS requires,
       ARRAY(SELECT v.version FROM version v WHERE v.name = a.name ORDER BY v.version) AS versions
  FROM pg_catalog.pg_available_extensions a
  LEFT JOIN version d ON d.name = a.name AND d.version = a.default_version
 WHERE a.default_version IS NOT NULL
 ORDER BY a.name
