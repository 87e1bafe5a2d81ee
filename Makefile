# advect: the everyday commands. `make help` lists them.
#
# All builds share one target directory, one profile (release) and one set of features, so that
# nothing is built twice. The MPI transport is built wherever an MPI compiler is installed.

# where rustup and Fedora's Open MPI put what `make setup` installs
export PATH := $(HOME)/.cargo/bin:$(PATH):/usr/lib64/openmpi/bin

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
ADVECT := $(TARGET)/release/advect
# looked up when it is used: `make setup` may just have installed it
FEATURES = $(if $(shell command -v mpicc 2>/dev/null),--features advect-pipelines/mpi)
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help run test check-long bench setup peers lint doc deny mpi under-mpi build

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: ## install what is missing: C compiler, HDF5, Open MPI, libclang, Rust
	@scripts/setup.sh

build: setup
	$(CARGO) build --release --workspace --bin advect $(FEATURES)

run: build ## the main job: a day of observations into a verified analysis
	$(ADVECT) run assimilate $(ARGS)

# the tests under mpirun take the program that the tests have built, with the features of their dependencies
test: setup lint ## format, clippy, all tests, the tests under mpirun, documentation
	$(CARGO) test --release --workspace $(FEATURES)
	@$(MAKE) --no-print-directory under-mpi doc

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets $(FEATURES) -- -D warnings
	$(CARGO) check --release --workspace --lib --bins

mpi: build under-mpi ## the tests under mpirun, where MPI is installed

under-mpi:
	@if [ -z "$(FEATURES)" ]; then echo "no mpicc: the MPI transport is not tested (make setup)"; \
	elif [ -x scripts/test-mpi.sh ]; then ADVECT=$(ADVECT) scripts/test-mpi.sh; \
	fi

check-long: setup ## the tests that take minutes: kills, seeds of the simulated network, fuzzing
	$(CARGO) test --release --workspace $(FEATURES) -- --include-ignored

bench: build ## all benchmarks, or BENCH=name
	@for name in $(or $(BENCH),$$($(ADVECT) bench --list | awk 'NR > 1 { print $$1 }')); do \
		$(ADVECT) bench $$name $(ARGS) || exit 1; \
	done

peers: ## a Python environment with the references that benchmarks run beside us
	python3 -m venv .venv
	.venv/bin/pip install --quiet -r benches/peers/requirements.txt

doc: ## the reference as web pages, warnings are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --release $(FEATURES)

deny: ## licences, advisories and sources of the dependencies
	$(CARGO) deny check
