# Bytes of the source's database, or of the directory $1 of $WORK.
set -eu
if [ "${1:-}" ]; then
    du --summarize --bytes "$WORK/$1" | cut -f 1
else
    psql --quiet --no-align --tuples-only "$SOURCE" --command='SELECT pg_database_size(current_database())'
fi
