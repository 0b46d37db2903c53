# Runs a contestant. Its output goes to $WORK/log, shown if it fails. Prints one line: seconds, its own processor seconds
# as user and as system, peak memory of its largest process in KiB, and processor seconds of the whole container, which
# includes both servers and, unlike wall clock, does not grow when others keep the machine busy.
set -eu
processor() {
    if [ -e /sys/fs/cgroup/cpu.stat ]; then
        awk '$1 == "usage_usec" { print $2 / 1e6 }' /sys/fs/cgroup/cpu.stat
    else
        awk '{ print $1 / 1e9 }' /sys/fs/cgroup/cpuacct/cpuacct.usage
    fi
}

before=$(processor)
if ! time --format='%e %U %S %M' --output="$WORK/time" sh "/bench/contestants/$@" >"$WORK/log" 2>&1; then
    tail -n 40 "$WORK/log" >&2
    exit 1
fi
after=$(processor)
echo "$(cat "$WORK/time") $(echo "$before $after" | awk '{ print $2 - $1 }')"
