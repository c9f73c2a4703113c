#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What `./dev test`, `./dev lint` and `./dev abi-update` do. Each line of the reports is one check;
# its output is shown if it failed, and kept in build/check/log.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Said, so that Meson does not put ccache before them: it has other flags and paths than CMake.
export CC=${CC:-cc} CXX=${CXX:-c++}
compilers=(gcc clang)
forking='^(errors|fork)$'
passed=0
failed=0
skipped=0
result=
# Only the checks whose names match, case aside; nothing for all.
only=
# What one check may take. A test has a limit of its own, which names it (tests/CMakeLists.txt).
limit_s=3600

# check [-n LINES] NAME COMMAND...: LINES of the output's end are shown even on success. Status 77
# means skipped, the output's last line says why. Sets `result`.
check() {
  local lines=0
  if [[ $1 == -n ]]; then
    lines=$2
    shift 2
  fi
  local name=$1 status=0 started=$SECONDS
  shift
  if [[ $only && ! ${name,,} =~ ${only,,} ]]; then
    result=unselected
    return
  fi
  local log=build/check/log/${name//[^a-zA-Z0-9+]/-}
  result=failed
  mkdir -p build/check/log
  set +e
  limited "$@" >"$log" 2>&1 </dev/null
  status=$?
  set -e
  case $status in
    0)
      result=passed
      passed=$((passed + 1))
      printf 'ok      %s (%d s)\n' "$name" $((SECONDS - started))
      tail -n "$lines" "$log" | sed 's/^/          /'
      ;;
    77)
      skipped=$((skipped + 1))
      printf 'skipped %s: %s\n' "$name" "$(tail -n 1 "$log")"
      ;;
    *)
      failed=$((failed + 1))
      printf 'FAILED  %s (status %d, %s)\n' "$name" "$status" "$log"
      tail -n 60 "$log" | sed 's/^/          /'
      ;;
  esac
}

# A check that says nothing new when the one before it did not pass.
if_passed() {
  if worked; then
    check "$@"
  fi
}

# Whether the check before did not fail, as far as is known: it may not have been asked for.
worked() {
  [[ $result == passed || $result == unselected ]]
}

# What to end with this script: processes, and groups of them.
running=()
beside=
end_running() {
  kill -TERM -- "${running[@]}" ${beside:+"$beside"} 2>/dev/null || true
}
trap end_running EXIT

# alongside FUNCTION: its checks, which keep one core busy for long, run beside those that follow.
# `join` waits for them and reports.
alongside() {
  mkdir -p build/check
  (
    beside=
    trap end_running EXIT
    "$1"
  ) >build/check/beside &
  beside=$!
}

join() {
  local status=0
  wait "$beside" || status=1
  beside=
  cat build/check/beside
  passed=$((passed + $(reported ok)))
  skipped=$((skipped + $(reported skipped)))
  failed=$((failed + $(reported FAILED) + status))
}

reported() {
  grep -c "^$1 " build/check/beside || true
}

# limited COMMAND...: ends it, and what it has started, with status 124 after limit_s. In a process
# group of its own; a subshell outside of any condition, so that `set -e` works in functions.
limited() {
  local command guard status
  set -m
  (set +m -e; "$@") &
  command=$!
  (set +m; sleep "$limit_s"; echo "ended after $limit_s s"; kill -TERM -- "-$command"
    sleep 10; kill -KILL -- "-$command") &
  guard=$!
  set +m
  running=("-$command" "-$guard")
  wait "$command" 2>/dev/null
  status=$?
  running=()
  kill -TERM -- "-$guard" 2>/dev/null
  wait "$guard" 2>/dev/null
  return $((status == 143 || status == 137 ? 124 : status))
}

finish() {
  if ((passed + failed + skipped == 0)); then
    echo "no check's name matches '$only'"
    return 1
  fi
  if ((skipped > 0)); then
    echo "$skipped skipped"
  fi
  echo "$passed passed, $failed failed"
  ((failed == 0))
}

# ---- builds

# shared_objects COMMAND...: among the builds that run so, by CMake with the same flags and paths, a
# file is compiled once.
shared_objects() {
  if command -v ccache >/dev/null; then
    local -x CCACHE_DIR=$PWD/build/check/ccache CMAKE_CXX_COMPILER_LAUNCHER=ccache
  fi
  # As in release_build, for Python's build too; other flags would be other objects.
  local -x SKBUILD_CMAKE_DEFINE=STEEPEST_WERROR=ON
  "$@"
}

release_build() {
  cmake --preset release -DSTEEPEST_WERROR=ON -DSTEEPEST_BUILD_TESTS=ON \
    -DSTEEPEST_BUILD_BENCHMARKS=ON -DSTEEPEST_BUILD_EXAMPLES=ON -DSTEEPEST_BUILD_TOOLS=ON
  cmake --build build/release
}

# Only the library: library_build DIRECTORY CMAKE_ARGUMENTS... With types, for the baseline; where
# variables are at each instruction takes half of the time of a kernel, and nobody looks here.
library_build() {
  cmake --preset debug -B "build/check/$1" -DCMAKE_CXX_FLAGS_DEBUG="-g -fno-var-tracking" \
    -DSTEEPEST_WERROR=ON -DSTEEPEST_BUILD_TESTS=OFF -DSTEEPEST_BUILD_BENCHMARKS=OFF \
    -DSTEEPEST_BUILD_EXAMPLES=OFF -DSTEEPEST_BUILD_TOOLS=OFF "${@:2}"
  cmake --build "build/check/$1"
}

# meson_build LONG: with the benchmarks, which take a quarter of the time, in the long form only.
meson_build() {
  local options=(--buildtype=release --prefix="$(cached CMAKE_INSTALL_PREFIX)"
    --libdir="$(cached CMAKE_INSTALL_LIBDIR)"
    -Dwerror=true -Dtests=enabled -Dexamples=enabled -Dtools=enabled
    -Dbenchmarks="$([[ $1 ]] && echo enabled || echo disabled)")
  # A directory of another Meson version cannot be reconfigured.
  if [[ ! -e build/meson/build.ninja ]] ||
    ! meson setup --reconfigure build/meson "${options[@]}"; then
    rm -rf build/meson
    meson setup build/meson "${options[@]}"
  fi
  meson compile -C build/meson
}

clang_build() {
  CC=clang CXX=clang++ cmake --preset release -B build/check/clang -DSTEEPEST_WERROR=ON \
    -DSTEEPEST_BUILD_BENCHMARKS="$1" -DSTEEPEST_BUILD_EXAMPLES="$1"
  cmake --build build/check/clang
}

openblas_provider() {
  cmake --preset release -B build/check/openblas -DSTEEPEST_MATRIX_PROVIDER=openblas \
    -DSTEEPEST_WERROR=ON -DSTEEPEST_BUILD_TESTS=ON -DSTEEPEST_BUILD_BENCHMARKS=OFF \
    -DSTEEPEST_BUILD_EXAMPLES=OFF -DSTEEPEST_BUILD_TOOLS=OFF
  cmake --build build/check/openblas --target test_msign
  OPENBLAS_NUM_THREADS=1 build/check/openblas/tests/msign
}

aarch64_build() {
  if ! command -v aarch64-linux-gnu-g++ qemu-aarch64-static >/dev/null; then
    echo 'no cross compiler or emulator for aarch64'
    return 77
  fi
  cmake --preset release -B build/check/aarch64 -DSTEEPEST_WERROR=ON \
    --toolchain cmake/aarch64-linux-gnu.cmake -DSTEEPEST_BUILD_TESTS=ON \
    -DSTEEPEST_BUILD_BENCHMARKS=OFF -DSTEEPEST_BUILD_EXAMPLES=OFF -DSTEEPEST_BUILD_TOOLS=OFF
  cmake --build build/check/aarch64
}

# In the quick form, since emulation is slow; without the tests that execute themselves anew, which
# an emulated program cannot. OpenBLAS's threads, emulated, would take minutes to come to rest.
aarch64_test() {
  OPENBLAS_NUM_THREADS=1 GTEST_FILTER='-default_context.*' \
    ctest --test-dir build/check/aarch64 --output-on-failure \
    --parallel "$(nproc)" --label-exclude '^long$'
}

# Without -Werror: with sanitizers GCC warns of uninitialized variables in its own headers.
# sanitized_build PRESET SANITIZERS [TARGET...]
sanitized_build() {
  if ! echo 'int main() {}' | c++ "-fsanitize=$2" -x c++ - -o build/check/sanitizer-probe ||
    ! build/check/sanitizer-probe; then
    echo 'the compiler has no sanitizer libraries, or they do not run on this kernel'
    return 77
  fi
  cmake --preset "$1"
  cmake --build "build/$1" --target "${@:3}"
}

thread_sanitizer_build() {
  local targets
  read -ra targets < <(awk '$1 == "test" && / :threads/ { printf "test_%s ", $2 }' tests/tests.list)
  sanitized_build thread-sanitizer thread "${targets[@]}"
}

# Of the release build; nothing before there is one, as with --only.
cached() {
  sed -n "s/^$1:[A-Z]*=//p" build/release/CMakeCache.txt 2>/dev/null || true
}

# ---- tests

ctest_in() {
  ctest --test-dir "$1" --output-on-failure --parallel "$(nproc)" "${ctest_selection[@]}" "${@:2}"
}

meson_test() {
  meson test -C build/meson --print-errorlogs --num-processes "$(nproc)" "${meson_selection[@]}"
}

# Null from malloc is what some tests ask for. GCC's copies of stack frames that should catch uses
# after return are not aligned for 64-byte vectors (GCC bug 110027).
with_sanitizers() {
  ASAN_OPTIONS=allocator_may_return_null=1:detect_stack_use_after_return=0$1 \
    UBSAN_OPTIONS=print_stacktrace=1 ctest_in build/sanitizers "${@:2}"
}

# consistent_matrix compares levels, on code that the other tests go through as well.
sanitizer_test() {
  with_sanitizers '' --exclude-regex "$forking|^consistent_matrix\$"
}

# A forked child has copies of what its parent's threads own, and not the threads: leaks to a tool.
sanitizer_fork_test() {
  with_sanitizers :detect_leaks=0 --tests-regex "$forking"
}

# In the quick form: memory accesses are some ten times slower.
thread_sanitizer_test() {
  env -u STEEPEST_TEST_LONG ctest --preset thread-sanitizer --parallel "$(nproc)"
}

# Memory errors and leaks, at the levels of which memcheck knows the instructions: generic and AVX2.
# Not the tests that hold results against long double, which is no longer than double there, nor
# those that fork, nor long computations. tests/valgrind.supp: what other libraries leave behind.
memchecked=(adamw_chunk adamw_values bad_input c_layout c_usage callbacks conformance context
  diagnostics growth muon_bad_input overlap q8 schedule schedule_bad_input spectral_norm
  unit_scaled_convert)
memcheck() {
  local failures=0 test started
  for test in "${memchecked[@]}"; do
    started=$SECONDS
    OPENBLAS_NUM_THREADS=1 OPENBLAS_CORETYPE=Prescott valgrind --quiet --error-exitcode=9 \
      --leak-check=full --suppressions=tests/valgrind.supp "build/release/tests/$test" \
      --gtest_brief=1 || failures=$((failures + 1))
    echo "== $test ($((SECONDS - started)) s)"
  done
  echo "${#memchecked[@]} tests, $failures with errors"
  ((failures == 0))
}

# The soak itself, and that it finds what is put wrong on purpose.
soak() {
  build/release/tests/soak --minutes 5
}

soak_finds() {
  local status=0
  build/release/tests/soak --minutes 0.4 --seed 1 --sabotage "$1" || status=$?
  ((status == 1))
}

# The packages want the prefix /usr, which changes no object.
packages() {
  local prefix status=0
  prefix=$(cached CMAKE_INSTALL_PREFIX)
  rm -rf build/check/packages
  cmake -DCMAKE_INSTALL_PREFIX=/usr build/release
  (cd build/release && cpack -G DEB -B ../check/packages) || status=$?
  cmake -DCMAKE_INSTALL_PREFIX="$prefix" build/release
  return $status
}

install_trees() {
  rm -rf build/check/install
  DESTDIR=$PWD/build/check/install/cmake cmake --install build/release
  DESTDIR=$PWD/build/check/install/meson meson install -C build/meson
}

same_exports() {
  diff -u <(tests/abi/abi.sh symbols build/release/libsteepest.so.1) \
    <(tests/abi/abi.sh symbols build/meson/libsteepest.so.1)
}

# wrapper_header COMPILER: steepest.hpp where there are no exceptions.
wrapper_header() {
  echo '#include <steepest/steepest.hpp>' |
    "$1" -x c++ -std=c++20 -fno-exceptions -pedantic -Wall -Wextra -Wshadow -Wconversion -Werror \
      -I include -fsyntax-only -
}

moved_tree() {
  rm -rf build/check/install/moved
  mv "$1" build/check/install/moved
}

bindings() {
  check 'Python wheel' shared_objects bindings/python/check.sh wheel
  if worked; then
    check 'wheel in a clean environment' bindings/python/check.sh clean
    check 'pip install .' shared_objects bindings/python/check.sh install
    check -n 4 'tests of the Python package' bindings/python/check.sh tests
    check 'types of the Python package' bindings/python/check.sh types
  fi

  check -n 15 'tests of the Julia package' bindings/julia/check.sh build/release/libsteepest.so.1

  check -n 1 'tests of the Rust crates' bindings/rust/check.sh tests
  if worked; then
    check 'Rust crates, with the static library' bindings/rust/check.sh static
    check 'formatting, clippy and documentation of the Rust crates' bindings/rust/check.sh lint
    check -n 1 'the Rust example trains its model' bindings/rust/check.sh example
    check 'the Rust crate for half' bindings/rust/check.sh half
    check 'the Rust crate for candle, with a stand-in for it' bindings/rust/check.sh candle
  fi
}

test_all() {
  ctest_selection=(--label-exclude '^long$')
  meson_selection=(--no-suite long)
  local long=
  while (($# > 0)); do
    case $1 in
      --long)
        long=1
        ctest_selection=()
        meson_selection=()
        export STEEPEST_TEST_LONG=1
        ;;
      --only)
        only=${2:?--only wants a regular expression}
        shift
        ;;
      *)
        echo "unknown argument $1" >&2
        return 2
        ;;
    esac
    shift
  done
  local compiler standard kind build prefix

  check 'CMake build' shared_objects release_build
  if_passed -n 3 'CMake tests' ctest_in build/release
  # The long forms are the same code in every other build.
  unset STEEPEST_TEST_LONG
  check 'Meson build' meson_build "$long"
  if_passed -n 9 'Meson tests' meson_test

  check 'both installs succeed' install_trees
  check -n 99 'both installs have the same files' tests/packaging/compare_installs.sh \
    build/check/install/{cmake,meson}
  check 'both libraries export the same symbols' same_exports
  check 'exported symbols are symbols.txt and the header' \
    tests/abi/abi.sh names build/release/libsteepest.so.1
  for build in release meson; do
    check -n 2 "programs built with earlier headers, on build/$build" tests/abi/old_callers.sh \
      "build/$build/libsteepest.so.1"
  done
  check -n 1 'every wrapper has all of the header' tests/abi/wrappers.py

  for compiler in "${compilers[@]}"; do
    for standard in c99 c11 c17; do
      check "header in $standard with $compiler" tests/abi/header.sh "$compiler" "$standard"
    done
    for standard in c++11 c++17 c++20; do
      check "header in $standard with $compiler" tests/abi/header.sh "$compiler" "$standard"
    done
    check "steepest.hpp without exceptions, with $compiler" wrapper_header "$compiler"
  done

  check 'debug build' library_build debug
  check -n 1 'binary interface against its baseline' \
    tests/abi/abi.sh types build/check/debug/libsteepest.so.1
  for build in release meson check/debug; do
    check -n 1 "objects of the ISA levels in build/$build" tests/symbols/check_objects.py \
      "build/$build"
  done

  prefix=build/check/install/cmake$(cached CMAKE_INSTALL_PREFIX)
  for kind in find_package versions pkg-config meson; do
    check "installed by CMake, used by $kind" tests/packaging/check_consumer.sh "$kind" "$prefix"
  done
  prefix=build/check/install/meson$(cached CMAKE_INSTALL_PREFIX)
  check 'the C++ example fits its data' build/release/examples/fit
  check -n 1 'the installed tool tests itself' \
    "build/check/install/cmake$(cached CMAKE_INSTALL_PREFIX)/bin/steepest" selftest
  check 'the installed tree can be moved' moved_tree "$prefix"
  for kind in find_package pkg-config meson; do
    check "installed by Meson and moved, used by $kind" tests/packaging/check_consumer.sh "$kind" \
      build/check/install/moved
  done
  for kind in add_subdirectory subproject; do
    check "source tree used by $kind" shared_objects tests/packaging/check_consumer.sh "$kind" .
  done

  check 'programs that load and unload the library' tests/packaging/check_unload.sh \
    build/release/libsteepest.so.1
  check 'Debian packages' packages
  if_passed 'a program built against the Debian packages' tests/packaging/check_deb.sh \
    build/check/packages
  check 'Conan recipe' python3 -m py_compile packaging/conan/conanfile.py \
    packaging/conan/test_package/conanfile.py
  check 'guides of docs/integrate' examples/integrate/check.sh build/check/install/moved

  alongside bindings
  check 'Clang build' clang_build "$([[ $long ]] && echo ON || echo OFF)"
  if_passed -n 3 'tests of the Clang build' ctest_in build/check/clang
  check 'exported symbols from Clang' tests/abi/abi.sh names build/check/clang/libsteepest.so.1
  check -n 1 'objects of the ISA levels from Clang' tests/symbols/check_objects.py \
    build/check/clang
  check 'msign by OpenBLAS, as a build option' shared_objects openblas_provider

  join

  if [[ $long ]]; then
    check -n 20 'soak of five minutes' soak
    for kind in leak bits oracle file thread; do
      check -n 1 "the soak finds what is wrong on purpose: $kind" soak_finds "$kind"
    done
    check -n 1 'memory errors and leaks, by memcheck' memcheck
    check -n 1 'a test notices each mutant' tests/mutation/run.py
    check 'Debian packages, installed in a new system' tests/packaging/check_system.sh \
      build/check/packages
    check 'Rust crates, which build the library' bindings/rust/check.sh bundled
    check 'aarch64 build' aarch64_build
    if_passed -n 3 'aarch64 tests under emulation' aarch64_test
    check 'ThreadSanitizer build' thread_sanitizer_build
    if_passed -n 3 'tests with threads under ThreadSanitizer' thread_sanitizer_test
    check 'sanitizer build' sanitized_build sanitizers address,undefined all
    if worked; then
      check -n 3 'tests with sanitizers' sanitizer_test
      check -n 3 'tests that fork, with sanitizers' sanitizer_fork_test
    fi
    check -n 9 'fuzzers, for a minute each' shared_objects tests/fuzz/run.sh
  fi
}

# ---- lint

formatted() {
  find include src tests bench examples tools \( -name '*.[ch]' -o -name '*.[ch]pp' \) -print0 |
    xargs -0 .venv/bin/clang-format --dry-run -Werror
}

short_lines() {
  ! grep -rnE '.{101}' include src tests bench bindings examples tools cmake dev .ci \
    --include='*.[ch]' --include='*.[ch]pp' --include='*.py' --include='*.sh' --include='*.cmake' \
    --include='*.rs' --include='*.jl' --include=dev --exclude-dir=headers
}

lint_all() {
  check 'formatting of C and C++' formatted
  check 'lines of at most 100 columns' short_lines
  check 'formatting of Python' .venv/bin/ruff format --check .
  check 'Python' .venv/bin/ruff check .
  check 'shell scripts' shellcheck --external-sources dev .ci/run tests/*.sh tests/*/*.sh \
    bindings/*/*.sh examples/*/*.sh
  if [[ ${1:-} == --quick ]]; then
    return
  fi
  check 'build for clang-tidy' clang_build OFF
  check 'clang-tidy' clang_tidy
}

clang_tidy() {
  find src -name '*.cpp' -print0 |
    xargs -0 -n 1 -P "$(nproc)" clang-tidy -p build/check/clang --quiet
}

case $1 in
  test)
    test_all "${@:2}"
    finish
    ;;
  lint)
    lint_all "${@:2}"
    finish
    ;;
  abi-update)
    library_build debug
    tests/abi/abi.sh update build/check/debug/libsteepest.so.1
    ;;
esac
