test:
	cargo fmt --all --check
	cargo test --release --workspace
.PHONY: test
