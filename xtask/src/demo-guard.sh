# Outlives the demo: when its standard input ends, however the demo ended, it stops the servers and removes everything.
# The word "keep" on its input sends it home.
#
# Argument: the demo's directory, which holds a directory for each server.

directory=$1
trap '' HUP INT TERM

read -r word
[ "$word" = keep ] && exit

for file in "$directory"/*/data/postmaster.pid; do
    [ -f "$file" ] || continue
    read -r server <"$file"
    # An immediate shutdown: nothing has to be written, the files go away.
    kill -s QUIT "$server"
    while kill -0 "$server" 2>/dev/null; do
        sleep 0.1
    done
done
rm -rf "$directory"
