#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# build_wheel.sh [DIRECTORY]: builds the wheel that runs on other machines, by default into
# build/python/wheel. It holds oneTBB and a serial OpenBLAS of its own (with LAPACKE inside the
# library), so that no other package's BLAS or threads get in its way. Its name states the glibc
# that it needs, which is that of the Debian packages it is built from.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
work=$PWD/build/python
output=${1:-$work/wheel}

libraries=/usr/lib/$(gcc -print-multiarch)
openblas=$libraries/openblas-serial
if [[ ! -e $openblas/libopenblas.so.0 ]]; then
  echo 'build_wheel.sh: needs the Debian package libopenblas0-serial' >&2
  exit 1
fi

tools=$work/tools
[[ -x $tools/bin/pip ]] || python3 -m venv "$tools"
"$tools/bin/pip" install --quiet -r bindings/python/requirements-build.txt
export PATH=$tools/bin:$PATH

rm -rf "$work/plain" "$work/repaired" "$work/unpacked"
pip wheel . --quiet --no-deps --no-build-isolation --wheel-dir "$work/plain" \
  --config-settings=build-dir="$work/cmake" \
  --config-settings=cmake.define.STEEPEST_OPENBLAS="$openblas/libopenblas.so.0" \
  --config-settings=cmake.define.STEEPEST_LAPACKE="$libraries/liblapacke.a"
LD_LIBRARY_PATH=$openblas auditwheel repair "$work/plain"/*.whl --wheel-dir "$work/repaired"

# The licences of what was bundled.
wheel unpack --dest "$work/unpacked" "$work/repaired"/*.whl
for package in libopenblas0-serial liblapacke-dev libtbb12 libgfortran5; do
  cp -L "/usr/share/doc/$package/copyright" \
    "$(echo "$work/unpacked"/*/*.dist-info/licenses)/$package.txt"
done
mkdir -p "$output"
rm -f "$output"/steepest-*.whl
wheel pack --dest-dir "$output" "$work/unpacked"/*
