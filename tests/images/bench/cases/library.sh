# (a) $1 embeddings of 512 dimensions beside as many wide rows, with plain keys. "with-hnsw" as $2: a vector index too.
set -eu
psql --quiet --set=ON_ERROR_STOP=1 --set=rows="$1" --file=/bench/cases/library.sql "$SOURCE"
if [ "${2:-}" = with-hnsw ]; then
    psql --quiet --set=ON_ERROR_STOP=1 "$SOURCE" --command='
        CREATE INDEX clip_index ON smart_search USING hnsw (embedding vector_cosine_ops) WITH (ef_construction = 300, m = 16)'
fi
