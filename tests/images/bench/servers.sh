# Makes both clusters with the same settings and runs them; ends when either ends.
set -eu

start() {
    initdb --pgdata="/data/$1" --username=postgres --auth=trust --encoding=UTF8 --locale=C.UTF-8 >/dev/null
    cat /bench/postgresql.conf >>"/data/$1/postgresql.conf"
    postgres -D "/data/$1" -p "$2" >"/data/$1.log" 2>&1 &
}
start source 5431
start target 5432
for port in 5431 5432; do
    until pg_isready --quiet --host=127.0.0.1 --port=$port; do sleep 0.1; done
    # An ordinary owner on both sides.
    psql --quiet --host=127.0.0.1 --port=$port --username=postgres --command='CREATE ROLE app LOGIN'
done
touch /data/ready
wait
