# The steps of .ci/run one by one, and other frequent commands.

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
    cargo deny check bans
    cargo deny --workspace check licenses sources

# Known vulnerabilities of dependencies; fetches their database
advisories:
    cargo deny --workspace check advisories

test:
    cargo test --workspace --locked

# The features of the SDK that no other crate here enables
sdk:
    cargo test --locked -p iggy_connector_sdk --all-features

# With a real server and runtime: IGGY_SERVER and IGGY_CONNECTORS name the executables (docs/iggy.md)
iggy *args:
    cargo test --locked -p iggy-http-sink --test suite iggy:: -- --nocapture {{ args }}

# The same with 200,000 messages and ten kills, of hosts and of runtimes with a spool
iggy-full:
    IGGY_MESSAGES=200000 IGGY_KILLS=10 cargo test --locked -p iggy-http-sink --test suite -- iggy::crash iggy::spool --nocapture --test-threads 1

# A hundred kills in each mode while a spool is filled and emptied
kills:
    IGGY_HTTP_SINK_KILLS=100 cargo test --release --locked -p iggy_connector_http_sink --test suite crash:: -- --nocapture --test-threads 1

# Two hundred ends of a run by signals, each followed by the command that it names
interruptions:
    IGGY_HTTP_SINK_INTERRUPTIONS=200 cargo test --locked -p iggy-http-sink --test suite however_often -- --nocapture

# A minute without an endpoint, and a topic beside one that is stuck
outage:
    cargo test --release --locked -p iggy_connector_http_sink --test suite outage:: -- --ignored --nocapture --test-threads 1

# An archive and a Debian package of the plugin and the tool
dist folder="dist":
    packaging/dist {{ folder }}

# Writes docs/configuration.md from the declarations of the keys
configuration:
    cargo run -q --locked -p iggy-http-sink -- schema --markdown > docs/configuration.md

# The plugin on real input, against a local endpoint
demo *args:
    cargo run --release --locked -- demo {{ args }}

# Instruction counts of encoding, compared with benches/instructions.toml; `just instructions update` writes it
instructions how="instructions":
    cargo bench -p iggy_connector_http_sink --bench encode --locked -- {{ how }}

# This many seeds of the simulation (docs/simulation.md), from the first on
simulate seeds="1000":
    SIMULATION_SEEDS={{ seeds }} SIMULATION_FIRST=0 cargo test --profile simulate --locked -p iggy_connector_http_sink --test simulation nothing_goes_wrong -- --nocapture
