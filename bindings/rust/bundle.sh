#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copies the library's source into steepest-sys/source, for `cargo package`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
target=bindings/rust/steepest-sys/source
rm -rf "$target"
mkdir -p "$target"
cp -R CMakeLists.txt LICENSE cmake include src "$target"
