# The steps of .ci/run one by one, and what else is typed often.

_list:
    @just --list

# All that CI runs
ci:
    .ci/run

fmt:
    cargo fmt --all --check

clippy:
    cargo clippy --workspace --all-targets --all-features --locked -- -D warnings

doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

deny:
    cargo deny check bans licenses sources

test:
    cargo test --workspace --locked

# The plugin on real input, against an endpoint of its own
demo *args:
    cargo run --release --locked -- demo {{ args }}
