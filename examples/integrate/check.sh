#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# check.sh PREFIX: compiles the programs of the guides in docs/integrate with the Steepest installed
# there, and runs them.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
prefix=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

libdir=$(dirname "$(find "$prefix" -name libsteepest.a)")
export PKG_CONFIG_PATH=$libdir/pkgconfig LD_LIBRARY_PATH=$libdir
read -ra flags < <(pkg-config --cflags --libs steepest)
for source in "$here"/*.c; do
  name=$(basename "$source" .c)
  echo "== $name"
  "${CC:-cc}" -std=gnu99 -O2 -Wall -Wextra -Werror "$source" "${flags[@]}" -lm -pthread \
    -o "$work/$name"
  "$work/$name"
done
