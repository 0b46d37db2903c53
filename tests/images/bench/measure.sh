# Runs a contestant: its output goes to $WORK/log (shown if it fails), and to stdout one line:
# seconds, processor seconds as user and as system, peak memory of its largest process in KiB.
set -eu
if ! time --format='%e %U %S %M' --output="$WORK/time" sh "/bench/contestants/$@" >"$WORK/log" 2>&1; then
    tail -n 40 "$WORK/log" >&2
    exit 1
fi
cat "$WORK/time"
