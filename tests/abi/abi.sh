#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The gate on the binary interface.
#   abi.sh symbols LIBRARY    prints the exported symbols with their versions
#   abi.sh names LIBRARY      compares them with symbols.txt, and symbols.txt with the header
#   abi.sh types LIBRARY      compares the types of the functions with the baseline. Additions are
#                             reported, anything else is an error. LIBRARY has debug information.
#   abi.sh update LIBRARY     writes symbols.txt and the baseline anew
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
library=$2
baseline=$here/steepest-$(uname -m).abi

# GNU ld also exports the name of each version, as an absolute symbol.
symbols() {
  nm -D --defined-only --with-symbol-versions "$1" | awk '$2 != "A" { print $3 }' | LC_ALL=C sort
}

dump() {
  abidw --headers-dir "$root/include" --drop-private-types --exported-interfaces-only \
    --no-corpus-path --no-comp-dir-path --no-show-locs --no-elf-needed "$1" |
    sed "s|path='[^']*/src/|path='src/|"
}

names() {
  echo 'symbols.txt against the library:'
  diff -u "$here/symbols.txt" <(symbols "$library")
  echo 'symbols.txt against the header:'
  diff -u <(sed 's/@.*//' "$here/symbols.txt") \
    <(cc -E -P "$root/include/steepest/steepest.h" | tr '\n' ' ' |
      sed 's/visibility("default")))\([^(]*\)(/\n@\1\n/g' |
      sed -n 's/^@.*[ *]\(steepest_[a-z0-9_]*\)$/\1/p' | LC_ALL=C sort)
  echo 'no difference'
}

types() {
  if [[ ! -e $baseline ]]; then
    echo "no baseline for $(uname -m)"
    exit 77
  fi
  local current
  current=$(mktemp)
  trap 'rm -f "$current"' RETURN
  dump "$library" >"$current"
  local report
  if report=$(abidiff --leaf-changes-only "$baseline" "$current"); then
    echo 'no difference'
    return 0
  fi
  printf '%s\n' "$report"
  # The suppression hides a struct that grows, and with it whatever else changed in that struct.
  if abidiff --no-added-syms --suppressions "$here/growth.suppr" \
    "$baseline" "$current" >/dev/null &&
    [[ $report != *'data member change'* ]]; then
    echo 'only additions; record them with ./dev abi-update'
  else
    echo 'changes that callers can notice'
    return 1
  fi
}

case $1 in
  symbols) symbols "$library" ;;
  names) names ;;
  types) types ;;
  update)
    symbols "$library" >"$here/symbols.txt"
    dump "$library" >"$baseline"
    ;;
esac
