#!/usr/bin/env bash
# Builds the feature `cuda` and runs the tests of local functions, and of transformers on a device, with it: on the
# GPU cuda:0 where there is one, else what needs none. Extra arguments go to the test programs. NVCC, CUDA_HOME and CUDA_COMPUTE_CAP
# (90 for an H100) are respected; the build is in its own target directory, since it takes minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "cuda: $*"; }
die() {
    echo "cuda: $*" >&2
    exit 1
}

nvcc=$(command -v nvcc || true)
[ -n "${CUDA_HOME:-}" ] && nvcc=$CUDA_HOME/bin/nvcc
[ -x "$nvcc" ] || die "no nvcc on PATH or in CUDA_HOME: install the CUDA toolkit 13.0 (developer.nvidia.com/cuda-downloads), or its wheels from PyPI (docs/gpu.md)"
CUDA_HOME=$(dirname "$(dirname "$(readlink -f "$nvcc")")")
export CUDA_HOME CUDA_PATH="$CUDA_HOME" PATH="$CUDA_HOME/bin:$PATH"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target/cuda}"

# the linker wants names without versions, and a driver; wheels have neither
links=$(mkdir -p "$CARGO_TARGET_DIR/links" && cd "$CARGO_TARGET_DIR/links" && pwd)
libraries=""
for lib in "$CUDA_HOME/lib64" "$CUDA_HOME/lib"; do
    [ -d "$lib" ] || continue
    libraries=${libraries:+$libraries:}$lib
    for name in cublas cublasLt cudart curand nvrtc; do
        for file in "$lib/lib$name".so.*; do
            [ -e "$file" ] && ln -sf "$file" "$links/lib$name.so"
        done
    done
done
[ -n "$libraries" ] || die "no lib64 or lib in $CUDA_HOME; set CUDA_HOME to the CUDA toolkit"

gpu=$(nvidia-smi -L 2>/dev/null | grep -m 1 '^GPU' || true)
if [ -n "$gpu" ]; then
    say "$gpu"
    export ADVECT_DEVICE="${ADVECT_DEVICE:-cuda:0}"
else
    say "no GPU: tests that need none"
    export CUDA_COMPUTE_CAP="${CUDA_COMPUTE_CAP:-90}"
fi

# a driver of which every function fails: enough to link, and to start where there is no other
bindings=$(cargo metadata --format-version 1 --features advect-operators/cuda |
    grep -o '"manifest_path":"[^"]*/cudarc-[^"]*"' | head -n 1 | cut -d '"' -f 4)
grep -rohE 'fn cu[A-Z][A-Za-z0-9_]*' "$(dirname "$bindings")/src/driver/sys" | sort -u |
    sed 's/fn \(.*\)/int \1(void) { return 999; }/' |
    ${CC:-cc} -w -shared -fPIC -Wl,-soname,libcuda.so.1 -x c - -o "$links/libcuda.so"
export RUSTFLAGS="${RUSTFLAGS:-} -L native=$links"
export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
if [ -z "$gpu" ]; then
    mkdir -p "$links/start"
    ln -sf ../libcuda.so "$links/start/libcuda.so.1"
    LD_LIBRARY_PATH=$LD_LIBRARY_PATH:$links/start
fi

test="cargo test --release -p advect-operators --features cuda"
$test --lib -- local:: fused:: "$@"
$test --test tape --test local -- "$@"
$test --test training -- device:: "$@"
$test --test vit -- vit_on_a_device "$@"
say "all good on ${ADVECT_DEVICE:-the processor, no GPU was used}"
