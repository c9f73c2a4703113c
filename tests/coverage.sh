#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `./dev coverage`: the tests of a build that counts executed lines, then gcovr's tables of src/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
required=95
build=build/coverage

cmake --preset coverage >/dev/null
cmake --build "$build"
find "$build" -name '*.gcda' -delete
# Counting takes time; consistent_matrix compares levels, on code that the other tests go through as
# well. Where a test fails, the figures say little.
status=0
ctest --test-dir "$build" --output-on-failure --parallel "$(nproc)" --label-exclude '^long$' \
  --exclude-regex '^consistent_matrix$' || status=$?
mkdir -p "$build/html"
# Of lines that several units compile, each counts once, as executed if one of them executed it.
.venv/bin/gcovr --root . --filter src/ --exclude-noncode-lines \
  --merge-mode-functions=merge-use-line-0 --sort=uncovered-percent \
  --html-details "$build/html/index.html" --json-summary "$build/summary.json" --txt - \
  --fail-under-line "$required" "$build/CMakeFiles/steepest_objects.dir" "$build/tests" ||
  status=$?
# By folder.
.venv/bin/python - "$build/summary.json" <<'PYTHON'
import collections
import json
import os
import sys

summary = json.load(open(sys.argv[1]))
folders = collections.defaultdict(lambda: [0, 0])
for file in summary["files"]:
    folder = folders[os.path.dirname(file["filename"])]
    folder[0] += file["line_covered"]
    folder[1] += file["line_total"]
for folder, (covered, total) in sorted(folders.items()):
    print(f"{folder:28} {covered:5} of {total:5} lines  {100 * covered / total:6.2f} %")
print(f"{'src':28} {summary['line_covered']:5} of {summary['line_total']:5} lines  "
      f"{100 * summary['line_covered'] / summary['line_total']:6.2f} %")
PYTHON
echo "lines and functions: $build/html/index.html"
exit "$status"
