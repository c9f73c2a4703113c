#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh [MINUTES] [TARGET...]: builds the fuzzers and runs each for that long (1), from the inputs
# of corpus/ and those of earlier runs. Status 1 if one has found something.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

seconds=60
if [[ ${1:-} =~ ^[0-9.]+$ ]]; then
  seconds=$(awk "BEGIN { print int(60 * $1 + 0.5) }")
  shift
fi
mapfile -t known < <(awk '$1 == "target" { print $2 }' tests/fuzz/targets.list)
targets=("${@:-${known[@]}}")
for target in "${targets[@]}"; do
  if [[ " ${known[*]} " != *" $target "* ]]; then
    echo "fuzz: there is no target $target; there are: ${known[*]}" >&2
    exit 2
  fi
done

cmake --preset fuzz >/dev/null
cmake --build build/fuzz --target "${targets[@]/#/fuzz_}"

# Null from malloc is an answer the library takes. Copies of stack frames cost too much here.
export ASAN_OPTIONS=allocator_may_return_null=1:detect_stack_use_after_return=0
export UBSAN_OPTIONS=print_stacktrace=1 OPENBLAS_NUM_THREADS=1
findings=build/fuzz/findings
mkdir -p "$findings" build/fuzz/log
status=0
for target in "${targets[@]}"; do
  program=build/fuzz/tests/fuzz/fuzz_$target
  log=build/fuzz/log/$target
  mkdir -p "build/fuzz/corpus/$target"
  if "$program" -max_total_time="$seconds" -max_len=1024 -len_control=0 -timeout=60 \
    -rss_limit_mb=4096 -artifact_prefix="$findings/$target-" -print_final_stats=1 \
    "build/fuzz/corpus/$target" "tests/fuzz/corpus/$target" >"$log" 2>&1; then
    awk -v target="$target" '/^stat::number_of_executed_units/ { runs = $2 }
      / cov: / { for (i = 1; i < NF; ++i) if ($i == "cov:") edges = $(i + 1) }
      END { printf "ok      %-12s %9d inputs, %5d edges\n", target, runs, edges }' "$log"
  else
    status=1
    grep -m 1 -A 3 -E 'not so:|ERROR: |runtime error: ' "$log" || tail -n 20 "$log"
    input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
    echo "FINDING in $target ($log); once more: $program ${input:-}"
  fi
done
exit $status
