# (b) pgbench's tables at scale $1: 100,000 narrow rows for each step. It vacuums them itself.
set -eu
pgbench --initialize --quiet --scale="$1" "$SOURCE"
