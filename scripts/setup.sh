#!/usr/bin/env bash
# Installs what advect needs to build, by the package manager of this system and only where it is
# missing: a C compiler, make, pkg-config, HDF5, Open MPI, libclang (for the MPI bindings) and Rust.
# Quick when all is there: it looks for the things themselves and never asks the package manager.
set -euo pipefail
cd "$(dirname "$0")/.."

have() { command -v "$1" >/dev/null 2>&1; }
say() { echo "setup: $*"; }
die() {
    echo "setup: $*" >&2
    exit 1
}

have_hdf5() {
    # 1.10.7 can read without file locks
    if have pkg-config && { pkg-config --atleast-version=1.10.7 hdf5 ||
        pkg-config --atleast-version=1.10.7 hdf5-serial; }; then
        return 0
    fi
    [ -n "${HDF5_DIR:-}" ] || have h5cc
}
have_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] && return 0
    local found
    found=$(find /usr/lib /usr/lib64 /usr/local/lib /usr/local/opt/llvm /opt/homebrew/opt/llvm \
        -maxdepth 4 -name 'libclang*.so*' -o -maxdepth 4 -name 'libclang.dylib' 2>/dev/null |
        grep -m1 -v cpp || true)
    [ -n "$found" ]
}
have_mpi() { have mpicc && have mpirun; }

manager=""
for candidate in apt-get dnf zypper apk pacman brew; do
    if have "$candidate"; then
        manager=$candidate
        break
    fi
done

# the name of a thing in the distribution's packages; empty where it has none
package() {
    case "$manager:$1" in
        apt-get:cc) echo "gcc libc6-dev" ;;
        dnf:cc | zypper:cc) echo "gcc" ;;
        apk:cc) echo "gcc musl-dev" ;;
        pacman:cc) echo "gcc" ;;
        brew:cc) echo "" ;;
        *:make) echo "make" ;;
        *:curl) echo "curl" ;;
        dnf:pkg-config) echo "pkgconf-pkg-config" ;;
        apk:pkg-config | pacman:pkg-config) echo "pkgconf" ;;
        *:pkg-config) echo "pkg-config" ;;
        apt-get:hdf5) echo "libhdf5-dev" ;;
        dnf:hdf5 | zypper:hdf5) echo "hdf5-devel" ;;
        apk:hdf5) echo "hdf5-dev" ;;
        *:hdf5) echo "hdf5" ;;
        apt-get:mpi) echo "libopenmpi-dev openmpi-bin" ;;
        dnf:mpi) echo "openmpi-devel openmpi" ;;
        zypper:mpi) echo "openmpi-devel" ;;
        apk:mpi) echo "openmpi-dev openmpi" ;;
        pacman:mpi) echo "openmpi" ;;
        brew:mpi) echo "open-mpi" ;;
        apt-get:libclang) echo "libclang-dev" ;;
        dnf:libclang) echo "clang-devel" ;;
        zypper:libclang) echo "clang-devel" ;;
        apk:libclang) echo "clang-dev" ;;
        pacman:libclang) echo "clang" ;;
        brew:libclang) echo "llvm" ;;
    esac
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        die "needs root to run: $*; run it as root, then start again"
    fi
}

install() {
    say "installing by $manager: $*"
    case "$manager" in
        apt-get)
            as_root apt-get update -qq
            as_root env DEBIAN_FRONTEND=noninteractive \
                apt-get install -y -qq --no-install-recommends "$@"
            ;;
        dnf) as_root dnf install -y -q "$@" ;;
        zypper) as_root zypper --non-interactive install "$@" ;;
        apk) as_root apk add --no-progress "$@" ;;
        pacman) as_root pacman -S --needed --noconfirm "$@" ;;
        brew) brew install "$@" ;;
    esac
}

look() {
    # Fedora and its like install Open MPI outside the path
    local modules
    for modules in /usr/lib64/openmpi/bin /usr/lib64/mpi/gcc/openmpi4/bin; do
        if [ -d "$modules" ]; then PATH="$PATH:$modules"; fi
    done
    missing=()
    have cc || missing+=(cc)
    have make || missing+=(make)
    have pkg-config || missing+=(pkg-config)
    have curl || missing+=(curl)
    have_hdf5 || missing+=(hdf5)
    have_mpi || missing+=(mpi)
    have_libclang || missing+=(libclang)
}

look
asked=${#missing[@]}
if [ ${#missing[@]} -gt 0 ]; then
    [ -n "$manager" ] || die "missing: ${missing[*]}; no package manager is known here, install them"
    packages=()
    for thing in "${missing[@]}"; do
        # several packages may stand for one thing
        read -ra names <<<"$(package "$thing")"
        packages+=(${names[@]+"${names[@]}"})
    done
    say "missing: ${missing[*]}"
    if [ ${#packages[@]} -gt 0 ]; then install "${packages[@]}"; fi
    hash -r
    look
    [ ${#missing[@]} -eq 0 ] || die "still missing: ${missing[*]}; install them by hand"
fi

# Rust: the version that the workspace asks for, or newer
wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
if ! have cargo && [ -x "$HOME/.cargo/bin/cargo" ]; then PATH="$HOME/.cargo/bin:$PATH"; fi
newest() { printf '%s\n' "$1" "$2" | sort -V | tail -1; }
rust_is_fine() {
    have cargo && have rustc || return 1
    local got
    got=$(rustc --version | awk '{ print $2 }')
    [ "$(newest "$wanted" "$got")" = "$got" ]
}
if ! rust_is_fine; then
    if have rustup; then
        say "installing Rust $wanted or newer by rustup"
        rustup toolchain install stable --profile minimal --component clippy,rustfmt
        rustup default stable
    else
        say "installing Rust by the official script of rustup (https://rustup.rs)"
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs |
            sh -s -- -y --profile minimal --component clippy,rustfmt --default-toolchain stable
        say "open a new shell, or: . \"$HOME/.cargo/env\""
        PATH="$HOME/.cargo/bin:$PATH"
    fi
    rust_is_fine || die "Rust is older than $wanted; update it with: rustup update stable"
fi
if [ "$asked" -gt 0 ]; then say "all is there"; fi
