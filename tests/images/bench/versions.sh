# What is compared, a line each.
set -eu
postgres --version
echo "pgvector $(sed -n "s/^default_version = '\(.*\)'/\1/p" "$(pg_config --sharedir)/extension/vector.control")"
pgmove --version
pgcopydb --version 2>/dev/null | head -n 1
pg_dump --version
