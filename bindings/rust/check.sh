#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# check.sh [STEP...]: checks the Rust crates, by default with all steps, against the library in
# build/release:
#   tests   cargo test, documentation examples included; linked with the shared library
#   static  the tests of the interface once more, linked with the static library
#   lint    rustfmt, clippy without warnings, documentation without warnings
#   example the example trains its model
#   half    optional/steepest-half, with Debian's copy of the crate half
#   candle  optional/steepest-candle, with the stand-in for candle that lies beside it
#   bundled the library built by steepest-sys itself, from the copy of the source that a package of
#           it has; takes minutes
# Status 77: cargo is missing, or for `half` that crate.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
library=$PWD/build/release
stand_in=$PWD/bindings/rust/optional/steepest-candle/stand-in
export CARGO_TARGET_DIR=$PWD/build/rust CARGO_NET_OFFLINE=true
if ! command -v cargo >/dev/null; then
  echo 'no cargo; Debian has it in the package cargo'
  exit 77
fi

on_crates() {
  cargo "$1" --manifest-path bindings/rust/Cargo.toml "${@:2}"
}

shared() {
  STEEPEST_LIB_DIR=$library STEEPEST_LINK=dylib LD_LIBRARY_PATH=$library on_crates "$@"
}

tests() {
  shared test --workspace
}

static() {
  STEEPEST_LIB_DIR=$library STEEPEST_LINK=static CARGO_TARGET_DIR=$PWD/build/rust-static \
    on_crates test --package steepest --tests
}

lint() {
  if cargo fmt --version >/dev/null 2>&1; then
    (cd bindings/rust && cargo fmt --all --check)
  else
    echo 'skipped: no rustfmt'
  fi
  if cargo clippy --version >/dev/null 2>&1; then
    shared clippy --workspace --all-targets -- -D warnings
  else
    echo 'skipped: no clippy'
  fi
  RUSTDOCFLAGS='-D warnings' shared doc --workspace --no-deps
}

example() {
  shared run --release --example train
}

# optional CRATE CARGO_OPTIONS...: a crate of its own workspace.
optional() {
  local manifest=$PWD/bindings/rust/optional/$1/Cargo.toml
  # Not in the repository; an older cargo cannot read what a newer one has left.
  rm -f "${manifest%.toml}.lock"
  if cargo fmt --version >/dev/null 2>&1; then
    cargo fmt --manifest-path "$manifest" --all --check
  fi
  export STEEPEST_LIB_DIR=$library STEEPEST_LINK=dylib LD_LIBRARY_PATH=$library
  cargo test --manifest-path "$manifest" "${@:2}"
  if cargo clippy --version >/dev/null 2>&1; then
    cargo clippy --manifest-path "$manifest" --all-targets "${@:2}" -- -D warnings
  fi
}

half() {
  local registry=/usr/share/cargo/registry
  if ! compgen -G "$registry/half-*" >/dev/null; then
    echo 'no crate half; Debian has it in the package librust-half-dev'
    exit 77
  fi
  optional steepest-half --config 'source.crates-io.replace-with="debian"' \
    --config "source.debian.directory='$registry'"
}

candle() {
  local name config=()
  for name in candle-core candle-nn; do
    config+=(--config "patch.crates-io.$name.path='$stand_in/$name'")
  done
  optional steepest-candle "${config[@]}"
}

bundled() {
  local bundle=bindings/rust/steepest-sys/source
  trap 'rm -rf bindings/rust/steepest-sys/source' EXIT
  bindings/rust/bundle.sh
  # All of it is in a package of the crate.
  diff <(on_crates package --package steepest-sys --allow-dirty --list | grep ^source/ | sort) \
    <(find "$bundle" -type f -printf 'source/%P\n' | sort)
  env -u STEEPEST_LIB_DIR CARGO_TARGET_DIR="$PWD/build/rust-bundled" cargo test \
    --manifest-path bindings/rust/Cargo.toml --package steepest --features bundled --tests
}

if (($# == 0)); then
  set -- tests static lint example half candle
fi
for step; do
  "$step"
done
