# The move with its proof. Ends with 0 only if every row was compared.
exec pgmove run --quiet --source "$SOURCE" --target "$TARGET" --run-dir "$WORK/run" "$@"
