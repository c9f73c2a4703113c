#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# header.sh COMPILER STANDARD: the header by itself, and each of its initialisers, compile without
# a warning.
set -euo pipefail

include=$(cd "$(dirname "$0")/../../include" && pwd)
language=c
[[ $2 == c++* ]] && language=c++

{
  echo '#include <steepest/steepest.h>'
  echo 'int main(void) {'
  # STEEPEST_ADAMW_CONFIG_INIT initialises a steepest_adamw_config.
  grep -o '^#define STEEPEST_[A-Z_]*_INIT' "$include/steepest/steepest.h" |
    while read -r _ macro; do
      type=${macro%_INIT}
      type=${type,,}
      echo "  ${type} ${type#steepest_} = ${macro}; (void)${type#steepest_};"
    done
  echo '  return 0;'
  echo '}'
} | "$1" -x "$language" -std="$2" -pedantic -Wall -Wextra -Werror -I "$include" -fsyntax-only -
