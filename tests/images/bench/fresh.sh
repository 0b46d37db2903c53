# Before each run: an empty database on the server of port $1, with the extension $2 if one is named, and a checkpoint on
# both servers, so that every run begins alike. Debian's pgvector wants a superuser.
set -eu
administer() {
    PGOPTIONS='-c client_min_messages=warning' \
        psql --quiet --set=ON_ERROR_STOP=1 --host=127.0.0.1 --username=postgres --dbname="$@"
}

rm -rf "$WORK"
mkdir -p "$WORK"
administer postgres --port="$1" --command='DROP DATABASE IF EXISTS app WITH (FORCE)' \
    --command='CREATE DATABASE app OWNER app'
if [ "${2:-}" ]; then
    administer app --port="$1" --command="CREATE EXTENSION $2"
fi
administer postgres --port=5431 --command=CHECKPOINT
administer postgres --port=5432 --command=CHECKPOINT
sync
