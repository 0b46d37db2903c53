# Runs one PostgreSQL server for the tests, and outlives them: it obeys the words on its standard input, which the
# tests hold open. When that ends, however they ended, it stops the server and removes the directory.
#
# Arguments: the directory, then the command that runs the server in the foreground.
# Words: start (does nothing when it runs), crash (as a machine does), stop (as an administrator does). Each is answered
# with an empty line when it is done.

directory=$1
shift
server=
trap '' HUP INT TERM

runs() {
    # A server that ended is a zombie until it is waited for.
    [ -n "$server" ] && { read -r _ _ state _ <"/proc/$server/stat"; } 2>/dev/null && [ "$state" != Z ]
}

end() {
    runs && kill -s "$1" "$server"
    [ -n "$server" ] && wait "$server"
    server=
}

while read -r word; do
    case $word in
    start)
        if ! runs; then
            "$@" </dev/null >>"$directory/log" 2>&1 &
            server=$!
        fi
        ;;
    crash) end KILL ;;
    stop) end INT ;;
    esac
    echo
done
end QUIT
rm -rf "$directory"
