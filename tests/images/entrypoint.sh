# Makes a new cluster and runs the command, as the published PostgreSQL images do: the superuser's password comes in
# POSTGRES_PASSWORD, and `postgres -c name=value` sets a setting.
set -eu

if [ ! -e "$PGDATA/PG_VERSION" ]; then
    printf '%s\n' "${POSTGRES_PASSWORD:?is not set}" >/tmp/password
    initdb --username=postgres --pwfile=/tmp/password --auth-local=trust --auth-host=scram-sha-256 \
        --encoding=UTF8 --locale=C.UTF-8
    rm /tmp/password
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
    echo "shared_preload_libraries = '$PRELOAD'" >>"$PGDATA/postgresql.conf"
fi
exec "$@"
