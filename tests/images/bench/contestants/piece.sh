# Copies blocks $2 up to $3 of table $1.
set -eu
psql --quiet --command="COPY (SELECT * FROM $1 WHERE ctid >= '($2,0)' AND ctid < '($3,0)') TO STDOUT (FORMAT binary)" "$SOURCE" \
    | psql --quiet --set=ON_ERROR_STOP=1 --command="COPY $1 FROM STDIN (FORMAT binary)" "$TARGET"
