# After each run: both sides have the same tables, rows, indexes and constraints in number, so that nobody wins by
# leaving something out.
set -eu
psql --quiet --no-align --tuples-only --file=/bench/inventory.sql "$SOURCE" >"$WORK/source"
psql --quiet --no-align --tuples-only --file=/bench/inventory.sql "$TARGET" >"$WORK/target"
diff "$WORK/source" "$WORK/target" >&2
