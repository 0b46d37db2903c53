# Not compared: see pgcopydb-compare.sh. Its defaults: 4 tables and 4 indexes at once, then VACUUM ANALYZE. The comment of
# an extension belongs to the superuser who made it.
exec pgcopydb clone --use-copy-binary --fail-fast --skip-ext-comments --dir "$WORK/pgcopydb" \
    --source "$SOURCE" --target "$TARGET" "$@"
