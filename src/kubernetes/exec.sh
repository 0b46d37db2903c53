# Runs a program and tells on stderr how it ended, and the SHA-256 of what it was given and of what it wrote: a stream of
# `pods/exec` can be cut without an error on either side. Parameters: a word that marks what is told here, the length of
# the input in bytes, the program and its arguments. Needs sh, and of coreutils (or busybox) cat, head, sha256sum and tee.
mark=$1 length=$2
shift 2
say() { printf '\n%s %s %s\n' "$mark" "$1" "$2" >&2; }
sum() { say "$1" "$(sha256sum)"; }
# 3 is the real output; 4 and 5 lead to the sums of input and output. The program's output stays open to the end, since
# containerd closes the input when the output is closed; and what it does not read is read by cat, for the sum.
exec 3>&1
{
    {
        head -c "$length" | tee /dev/fd/4 | {
            "$@" 3>&- 4>&- 5>&-
            say exit "$?"
            cat > /dev/null
        } | tee /dev/fd/5 >&3
    } 4>&1 | sum input 3>&- 5>&-
} 5>&1 | sum output 3>&-
