#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# check_consumer.sh KIND WHERE: builds and runs programs that use Steepest as KIND says.
#   find_package, versions, pkg-config, meson   WHERE is the prefix of an installed tree
#   add_subdirectory, subproject                WHERE is the source tree
set -euo pipefail

kind=$1
where=$(realpath "$2")
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Runs both programs, and makes sure that only the first one needs the shared library.
run() {
  LD_LIBRARY_PATH=${libdir:-} "$1/consumer_shared"
  "$1/consumer_static"
  readelf -d "$1/consumer_shared" | grep -q 'NEEDED.*libsteepest'
  if readelf -d "$1/consumer_static" | grep 'NEEDED.*libsteepest'; then
    echo 'the static program needs the shared library'
    return 1
  fi
}

configure() {
  cmake -S "$here/$1" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release "${@:2}"
}

installed_libdir() {
  libdir=$(dirname "$(find "$where" -name libsteepest.a)")
  export PKG_CONFIG_PATH=$libdir/pkgconfig
}

case $kind in
  find_package)
    configure find_package -DCMAKE_PREFIX_PATH="$where"
    cmake --build "$work/build"
    run "$work/build"
    ;;
  versions)
    installed_libdir
    IFS=. read -r major minor patch < <(pkg-config --modversion steepest)
    accepted=("$major" "$major.$minor" "$major.$minor.$patch" "$major.$minor...<$((major + 1))")
    refused=("$((major + 1))" "$major.$((minor + 1))" "$major.$minor.$((patch + 1))")
    if ((major == 0 && minor > 0)); then
      refused+=("0.$((minor - 1))")
    fi
    for version in "${accepted[@]}"; do
      configure find_package -DCMAKE_PREFIX_PATH="$where" -DREQUESTED_VERSION="$version"
    done
    for version in "${refused[@]}"; do
      if configure find_package -DCMAKE_PREFIX_PATH="$where" -DREQUESTED_VERSION="$version"; then
        echo "a request for version $version was accepted"
        exit 1
      fi
    done
    ;;
  pkg-config)
    installed_libdir
    cc=${CC:-cc}
    read -ra cflags < <(pkg-config --cflags steepest)
    read -ra shared < <(pkg-config --libs steepest)
    read -ra static < <(pkg-config --static --libs steepest)
    "$cc" -std=c99 "$here/consumer.c" "${cflags[@]}" "${shared[@]}" -o "$work/consumer_shared"
    # The archive by its name, since -lsteepest prefers the shared library beside it.
    "$cc" -std=c99 "$here/consumer.c" "${cflags[@]}" "${static[@]/#-lsteepest/-l:libsteepest.a}" \
      -o "$work/consumer_static"
    run "$work"
    "${CXX:-c++}" -std=c++20 "$here/consumer.cpp" "${cflags[@]}" "${shared[@]}" \
      -o "$work/consumer_cpp"
    LD_LIBRARY_PATH=$libdir "$work/consumer_cpp"
    ;;
  meson)
    installed_libdir
    cp "$here/meson/meson.build" "$here/consumer.c" "$work"
    meson setup "$work/build" "$work"
    meson compile -C "$work/build"
    run "$work/build"
    ;;
  add_subdirectory)
    configure add_subdirectory -DSTEEPEST_SOURCE_DIR="$where" -DSTEEPEST_WERROR=ON
    cmake --build "$work/build"
    run "$work/build"
    ;;
  subproject)
    mkdir "$work/subprojects"
    ln -s "$where" "$work/subprojects/steepest"
    # Read, and nothing fetched, since the directory that it names is there.
    cp "$where/packaging/steepest.wrap" "$work/subprojects"
    cp "$here/meson/meson.build" "$here/consumer.c" "$work"
    meson setup "$work/build" "$work" --wrap-mode=forcefallback
    meson compile -C "$work/build"
    run "$work/build"
    ;;
esac
