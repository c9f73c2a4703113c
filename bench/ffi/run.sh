#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh: what a call from another language costs over the C call: for C++ and Rust a line of JSON
# each, for Julia a table. Uses the library in build/release. Aims: C++ 20 ns, Rust 50, Julia 200.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
library=$PWD/build/release
mkdir -p build/ffi
"${CXX:-c++}" -std=c++20 -O2 -Iinclude bench/ffi/overhead.cpp -o build/ffi/overhead \
  -L"$library" -lsteepest -Wl,-rpath,"$library"
build/ffi/overhead
if command -v cargo >/dev/null; then
  export STEEPEST_LIB_DIR=$library LD_LIBRARY_PATH=$library CARGO_TARGET_DIR=$PWD/build/rust
  cargo build --quiet --offline --release --example overhead \
    --manifest-path bindings/rust/Cargo.toml
  build/rust/release/examples/overhead
else
  echo 'no cargo: Rust is left out' >&2
fi
if command -v julia >/dev/null; then
  julia --startup-file=no --project=bindings/julia/Steepest.jl bench/ffi/julia.jl \
    "$library/libsteepest.so.1"
else
  echo 'no julia: Julia is left out' >&2
fi
