# After pgcopydb.sh, into the same database: it ends with 0 also where tables differ, so its table is looked at.
set -eu
pgcopydb compare data --dir "$WORK/pgcopydb" --source "$SOURCE" --target "$TARGET"
