# Outlives the tests and removes their container, as guard.sh does with a local server; it obeys the same words.
#
# Argument: the container's id.

container=$1
trap '' HUP INT TERM

while read -r word; do
    case $word in
    start) docker start "$container" ;;
    crash) docker kill --signal=KILL "$container" ;;
    # The signal of a fast shutdown, which does not wait for sessions.
    stop) docker kill --signal=INT "$container" && docker wait "$container" ;;
    esac >/dev/null
    echo
done
docker rm --force --volumes "$container"
