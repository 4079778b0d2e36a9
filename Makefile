# The two commands of the README, and what maintainers need. Everything real happens in the rednix binary.

CARGO ?= cargo
RELEASE := target/release/rednix

KILLS ?= 1000

.PHONY: run test torture build setup check bench image hooks clean

# Builds the embedded system from source and boots it; the console is this terminal.
run: build
	@$(RELEASE) run $(ARGS)

# Everything that proves it works. The machine tests at its end boot the image.
test: build
	@scripts/test.sh $(TESTARGS)

# Kills the program at random moments and looks at the store after each: make torture KILLS=1000
torture: build
	@REDNIX_TORTURE_KILLS=$(KILLS) $(CARGO) test --release --locked -p rednix --test program killed_at_random_moments -- --nocapture

build: setup
	@$(CARGO) build --release --locked --bin rednix

image: build
	@$(RELEASE) image probe -o probe.img

# What the host itself must have: installed when root, named when not.
setup:
	@scripts/setup.sh

# What must pass before a commit.
check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets --locked -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny --offline check licenses bans sources; else echo "skipped: cargo-deny is not installed (cargo install cargo-deny)"; fi

bench: build
	@benches/run.sh

# Runs `make check` before every commit in this clone.
hooks:
	git config core.hooksPath scripts/hooks

clean:
	$(CARGO) clean
