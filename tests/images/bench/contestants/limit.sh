# The limit: nothing but PostgreSQL's own work. One psql writes binary COPY into another, 2 at a time ($1), pieces of
# large tables as pieces.sql cuts them.
set -eu
pg_dump --no-comments --section=pre-data "$SOURCE" | psql --quiet --set=ON_ERROR_STOP=1 "$TARGET" >/dev/null
pg_dump --no-comments --format=custom --section=post-data --file="$WORK/post-data" "$SOURCE"
psql --quiet --no-align --tuples-only --field-separator=' ' --file=/bench/contestants/pieces.sql "$SOURCE" \
    | xargs --max-procs="${1:-2}" --max-lines=1 sh /bench/contestants/piece.sh
pg_restore --jobs=2 --dbname="$TARGET" "$WORK/post-data"
vacuumdb --analyze-only --schema=public --jobs=2 "$TARGET"
