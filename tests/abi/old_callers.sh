#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# old_callers.sh LIBRARY: old_caller.c, built with each header of headers/, runs with the library.
set -euo pipefail
library=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for header in "$here"/headers/*/; do
  name=$(basename "$header")
  "${CC:-cc}" -std=c99 -pedantic -Wall -Wextra -Werror -I "$header" "$here/old_caller.c" \
    "$library" -Wl,-rpath,"$(dirname "$library")" -lm -o "$work/$name"
  "$work/$name" || {
    echo "a program built with the header '$name' does not work with $library"
    exit 1
  }
  echo "$name: right"
done
