# (c) one table of $1 rows of 1 kB.
set -eu
psql --quiet --set=ON_ERROR_STOP=1 --set=rows="$1" --file=/bench/cases/wide.sql "$SOURCE"
