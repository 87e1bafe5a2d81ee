#!/bin/sh
# Tests of the MPI transport, under mpirun with 2 and 4 ranks. Extra arguments go to mpirun.
# Everything that could hang has a limit: a hang is a failure.
set -eu
cd "$(dirname "$0")/.."

# says where it built the test
binary=$(cargo test --release --workspace --features advect-pipelines/mpi --test mpi --no-run \
    --message-format=json | sed -n 's/.*"executable":"\([^"]*\/mpi-[^"]*\)".*/\1/p' | tail -n 1)
[ -x "$binary" ] || { echo "test-mpi: the test program was not built" >&2; exit 1; }

launch="mpirun --oversubscribe"
RUST_BACKTRACE=0; export RUST_BACKTRACE
[ "$(id -u)" -ne 0 ] || launch="$launch --allow-run-as-root"

# good RANKS ARGUMENTS...: must end well
good() {
    ranks=$1; shift
    echo "== $ranks ranks: $*"
    timeout 300 $launch -n "$ranks" "$binary" "$@" || { echo "test-mpi: $* failed" >&2; exit 1; }
}

# bad RANKS HOW: rank RANKS-1 fails; all must end within 20 s, with an error and its name
bad() {
    echo "== $1 ranks: $2 of rank $(($1 - 1))"
    code=0
    said=$(timeout 20 $launch -n "$1" "$binary" "$2" 2>&1) || code=$?
    if [ "$code" -eq 0 ] || [ "$code" -eq 124 ]; then
        echo "test-mpi: $2 ended with code $code: $said" >&2; exit 1
    fi
    if ! echo "$said" | grep -q "rank $(($1 - 1))"; then
        echo "test-mpi: nobody names rank $(($1 - 1)): $said" >&2; exit 1
    fi
    echo "$said" | grep "rank $(($1 - 1))" | head -n 2
    echo "code $code"
}

good 2 laws 1
good 2 laws 2
good 4 laws 1
good 2 unread
good 2 idle
good 4 idle
bad 2 panic
bad 4 panic
bad 2 kill
bad 4 kill

# the main job: the same bytes on one thread and on ranks
if [ -n "${ADVECT:-}" ]; then
    out=$(mktemp -d)
    trap 'rm -rf "$out"' EXIT
    job="$ADVECT run assimilate --quiet -w 1 --set period.cycles=3 --out"
    $job "$out/1"
    for ranks in 2 4; do
        echo "== $ranks ranks: assimilate"
        timeout 300 $launch -n "$ranks" $job "$out/$ranks"
        for file in analyses.nc rejected.parquet scores.json; do
            cmp "$out/1/$file" "$out/$ranks/$file"
        done
    done

    # training: the same curve and the same text on threads and on ranks, whatever the clock says
    job="$ADVECT run language --quiet --set training.steps=12 --set validation.every=6 --set samples.step=4"
    job="$job --set samples.micro=2 --set text.test=2000 --set sample.tokens=8 --out"
    curve() { sed 's/,"targets_per_second":[^,}]*//' "$1/metrics.jsonl" | sort; }
    for mesh in "2 data 2" "4 zero-1 2, tensor 2" "4 stage 2, zero-3 2" \
        "2 context-ring 2" "4 context-zig-zag 4" "4 context-heads 2, context-ring 2"; do
        ranks=${mesh%% *}; mesh=${mesh#* }
        echo "== $ranks ranks: language on $mesh"
        $job "$out/threads" -w "$ranks" --set "layout.mesh=\"$mesh\""
        timeout 300 $launch -n "$ranks" $job "$out/ranks" -w 1 --set "layout.mesh=\"$mesh\""
        curve "$out/threads" > "$out/a"; curve "$out/ranks" > "$out/b"
        cmp "$out/a" "$out/b"
        cmp "$out/threads/sample.txt" "$out/ranks/sample.txt"
    done
fi
echo "MPI: all good"
