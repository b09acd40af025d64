# Short names for what is done often. Continuous integration does not need them: it runs .ci/run.

# The list of recipes.
default:
    @just --list --unsorted

# Formats everything.
fmt:
    cargo fmt --all

# Clippy, warnings are errors.
lint:
    cargo clippy --locked --workspace --all-targets -- --deny warnings

# Every test that needs no outside server.
test:
    cargo test --locked --workspace

# Every test, against Mosquitto, VictoriaMetrics, pymodbus and promtool: installs what is missing, needs root for that.
e2e:
    tests/run

# What must pass before a commit: format, lints, tests (the dependency-direction test is one of them), documentation.
check: && lint test doc
    cargo fmt --all --check

# The documentation of the code, warnings are errors.
doc:
    RUSTDOCFLAGS="--deny warnings" cargo doc --locked --workspace --no-deps

# Runs the gateway with a configuration.
run config="gateway.yaml":
    cargo run --release --locked -- run --config {{config}}

# The whole chain in one process with a simulated district.
demo *arguments:
    cargo run --release --locked -- demo {{arguments}}

# Messages a second and CPU seconds per million messages: docs/benchmarks.md.
bench *arguments:
    bench/run {{arguments}}

# Tries for a night to lose something: thousands of power cuts, 200 mishaps, and new bytes for every parser.
nightly minutes="60":
    KERBSIDE_ROUNDS=5000 cargo test --locked --package kerbside-powercut -- --nocapture
    cargo build --locked --workspace --bins
    KERBSIDE_ROUNDS=200 cargo test --locked --package kerbside --test e2e -- --ignored --nocapture whatever_goes_wrong
    just fuzz {{minutes}}

# One hour at 5,000 messages a second with Mosquitto restarting every minute: nothing lost, memory flat. SOAK_SECONDS=120 for a trial.
soak:
    tests/soak

# New bytes for every parser, so many minutes each. Needs `rustup toolchain install nightly` and `cargo install cargo-fuzz`.
fuzz minutes="5" targets="batch binary cbor codec csv envelope inventory json link mqtt profiles rain recording registers rules sparkplug topics":
    #!/usr/bin/env bash
    set -euo pipefail
    for target in {{targets}}; do
        mkdir -p "target/fuzz/corpus/$target"
        cargo +nightly fuzz run --target-dir target/fuzz "$target" "target/fuzz/corpus/$target" "tests/fuzz/corpus/$target" \
            -- -max_total_time=$(({{minutes}} * 60)) -max_len=4096 -print_final_stats=1
    done

# Licences, advisories, sources and banned crates. Needs `cargo install cargo-deny` and the network.
deny:
    cargo deny --locked check

# One static binary for another machine. Needs `rustup target add TARGET` and `pip install ziglang cargo-zigbuild`.
cross target="aarch64-unknown-linux-musl":
    cargo zigbuild --release --locked --package kerbside --target {{target}}
