#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# check.sh [STEP...]: checks the Python package. The steps, by default all of them:
#   wheel    builds the wheel
#   clean    installs it into a new virtual environment with only numpy, and uses it there
#   install  the same after `pip install .`
#   types    mypy
#   tests    pytest with the wheel; the tests of torch too if ./dev setup --peers has installed it
# `clean` and `tests` use the wheel as the last `wheel` built it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
here=bindings/python
work=$PWD/build/python
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_QUIET=1 PYTHONDONTWRITEBYTECODE=1
# The versions of what pip fetches to build the package.
export PIP_CONSTRAINT=$PWD/$here/requirements-build.txt
unset PYTHONPATH STEEPEST_LIBRARY

wheel() {
  "$here/build_wheel.sh" "$work/wheel"
}

# new_venv NAME: empty.
new_venv() {
  rm -rf "${work:?}/$1"
  python3 -m venv "$work/$1"
}

# use NAME: outside of this directory, so that what is imported is what was installed.
use() {
  (cd / && "$work/$1/bin/python" - <"$OLDPWD/$here/tests/smoke.py")
}

clean() {
  new_venv clean
  "$work/clean/bin/pip" install -r "$here/requirements.txt"
  "$work/clean/bin/pip" install --no-index "$work"/wheel/steepest-*.whl
  use clean
  # Nothing of the system's BLAS and threads was used.
  (cd / && "$work/clean/bin/python" -c '
import numpy, re, steepest
steepest.msign(numpy.eye(3), method="svd")
maps = open("/proc/self/maps").read()
files = set(re.findall(r"/\S*/lib(?:openblas|tbb|lapack|gfortran)\S*", maps))
print("\n".join(sorted(files)))
outside = [name for name in files if "/site-packages/" not in name]
assert files and not outside, outside')
}

install() {
  new_venv installed
  "$work/installed/bin/pip" install -r "$here/requirements.txt"
  "$work/installed/bin/pip" install --config-settings=build-dir="$work/cmake-installed" .
  use installed
}

test_venv() {
  new_venv test
  "$work/test/bin/pip" install -r "$here/requirements-test.txt"
  "$work/test/bin/pip" install --no-index "$work"/wheel/steepest-*.whl
}

types() {
  [[ -x $work/test/bin/mypy ]] || test_venv
  "$work/test/bin/mypy" --cache-dir "$work/mypy"
}

tests() {
  test_venv
  # Other packages, torch among them, from the environment of ./dev; its own come first.
  if .venv/bin/python -c 'import torch' 2>/dev/null; then
    .venv/bin/python -c 'import site; print(site.getsitepackages()[0])' \
      >"$("$work/test/bin/python" -c 'import site; print(site.getsitepackages()[0])')/peers.pth"
  fi
  "$work/test/bin/python" -m pytest -q -rs -o cache_dir="$work/pytest" "$here/tests"
}

if (($# == 0)); then
  set -- wheel clean install types tests
fi
for step; do
  "$step"
done
