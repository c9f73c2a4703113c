#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# compare_installs.sh TREE TREE: the same files, links and texts; of libraries and programs only the
# names.
set -euo pipefail

list() {
  (cd "$1" && find . -mindepth 1 -printf '%y %p %l\n' | LC_ALL=C sort)
}

diff -u <(list "$1") <(list "$2")
diff -ru --exclude='libsteepest.*' --exclude=bin "$1" "$2"
list "$1"
