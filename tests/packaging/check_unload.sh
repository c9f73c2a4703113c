#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# check_unload.sh LIBRARY: dlopen and dlclose in a loop, with the program of unload.c.
set -euo pipefail
library=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"${CC:-cc}" -std=gnu99 -Wall -Wextra -Werror -I "$here/../../include" "$here/unload.c" \
  -ldl -lpthread -o "$work/unload"
timeout 60 "$work/unload" "$library"
# On two threads whatever the machine has.
STEEPEST_NUM_THREADS=2 timeout 60 "$work/unload" "$library"
