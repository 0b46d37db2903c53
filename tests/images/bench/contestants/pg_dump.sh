# Not compared. No --exit-on-error: pg_restore ends with 1 if a statement failed.
# --no-comments: the comment of an extension belongs to the superuser who made it.
set -eu
pg_dump --no-comments --format=directory --jobs=2 --compress=zstd:1 --file="$WORK/dump" "$SOURCE"
pg_restore --jobs=2 --dbname="$TARGET" "$WORK/dump"
vacuumdb --analyze-only --schema=public --jobs=2 "$TARGET"
