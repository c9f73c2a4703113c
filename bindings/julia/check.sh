#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# check.sh LIBRARY: the tests of the Julia package with that libsteepest.so.1, without network.
# Status 77: there is no julia.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
library=$(realpath "$1")

if ! command -v julia >/dev/null; then
  echo 'there is no julia; ./dev setup --julia installs it'
  exit 77
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Compiled packages and manifests stay out of the tree.
export JULIA_DEPOT_PATH=$work/depot: STEEPEST_LIBRARY=$library
export JULIA_NUM_THREADS=2
unset STEEPEST_NUM_THREADS STEEPEST_MAX_ISA
julia --startup-file=no --project="$here/Steepest.jl" "$here/Steepest.jl/test/runtests.jl"
