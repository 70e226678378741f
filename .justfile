# Daily commands. `just` lists them.

_default:
    @just --list --unsorted

# a gateway with a chat room
demo:
    cargo run -- demo

# tests that need the toolchain only
fast:
    tests/run --fast

# integration tests whose names contain these words
it *words:
    cargo nextest run --locked --test it {{words}}

# all tests
test:
    tests/run

# what must hold before a change lands
ci:
    .ci/run

# format, lints and documentation
lint:
    cargo fmt
    cargo clippy --locked --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items --quiet

# writes what is generated from the settings again
generate:
    WAFERGATE_GENERATE=1 cargo test --locked --test config generated

# fuzzes each parser
fuzz seconds="60":
    tests/fuzz/run {{seconds}}

# measures the whole process; needs an idle machine
bench *arguments="all":
    cargo bench --locked --bench load -- {{arguments}}
