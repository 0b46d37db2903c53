# Makes a new cluster and runs the command, as the published PostgreSQL images do: the superuser's password comes in
# POSTGRES_PASSWORD, scripts in /docker-entrypoint-initdb.d run once, before the server can be reached from outside,
# and `postgres -c name=value` sets a setting.
set -eu

if [ ! -e "$PGDATA/PG_VERSION" ]; then
    printf '%s\n' "${POSTGRES_PASSWORD:?is not set}" >/tmp/password
    initdb --username=postgres --pwfile=/tmp/password --auth-local=trust --auth-host=scram-sha-256 \
        --encoding=UTF8 --locale=C.UTF-8 >/dev/null
    rm /tmp/password
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
    echo "shared_preload_libraries = '$PRELOAD'" >>"$PGDATA/postgresql.conf"
    if [ -d /docker-entrypoint-initdb.d ]; then
        pg_ctl start --wait --silent --options="-c listen_addresses=''"
        for script in /docker-entrypoint-initdb.d/*.sh; do
            sh "$script"
        done
        pg_ctl stop --wait --silent
    fi
fi
exec "$@"
