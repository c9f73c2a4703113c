#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# check_deb.sh FOLDER: the Debian packages there have the right names, contents and dependencies,
# which this system can satisfy; a program is built against them, unpacked into an empty root, and
# run.
set -euo pipefail
folder=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

runtime=("$folder"/libsteepest[0-9]*_*.deb)
development=("$folder"/libsteepest-dev_*.deb)
[[ ${#runtime[@]} == 1 && ${#development[@]} == 1 ]]

fail() {
  echo "check_deb: $*" >&2
  exit 1
}

depends() {
  dpkg-deb -f "$1" Depends
}

version=$(dpkg-deb -f "${runtime[0]}" Version)
for package in libc6 libstdc++6 libtbb12 libopenblas0 liblapacke; do
  depends "${runtime[0]}" | grep -qw -- "$package" || fail "the library does not depend on $package"
done
depends "${development[0]}" | grep -qE "^libsteepest[0-9]+ \\(= $version\\)" ||
  fail 'libsteepest-dev does not depend on the library of its version'

# What apt says of installing them here: dependencies and conflicts, and nothing is done.
if command -v apt-get >/dev/null; then
  apt-get install -q --simulate --no-install-recommends "${runtime[0]}" "${development[0]}"
fi

dpkg-deb -x "${runtime[0]}" "$root"
library=$(find "$root" -name 'libsteepest.so.*' -type f)
soname=$(readelf -d "$library" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')
[[ $(basename "$library") == "$soname" ]] || fail "the file of $soname is $library"
name=$(dpkg-deb -f "${runtime[0]}" Package)
[[ $name == "libsteepest${soname##*.}" ]] || fail "$soname is in the package $name"
[[ $library == "$root/usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH)/$soname" ]] ||
  fail "the library is installed as ${library#"$root"}"
# With no file for the linker: that is the other package's.
[[ ! -e ${library%.*} && -e $root/usr/share/doc/$name/copyright ]]
dpkg-deb --ctrl-tarfile "${runtime[0]}" | tar -t | grep -qE 'triggers|postinst' ||
  fail 'nothing tells ldconfig of the library'

dpkg-deb -x "${development[0]}" "$root"
for kind in find_package pkg-config; do
  "$here/check_consumer.sh" "$kind" "$root/usr"
done

tools=("$folder"/steepest-tools_*.deb)
[[ ${#tools[@]} == 1 ]]
depends "${tools[0]}" | grep -qE "(^|, )$name \\(= $version\\)" ||
  fail 'steepest-tools does not depend on the library of its version'
dpkg-deb -x "${tools[0]}" "$root"
[[ -e $root/usr/share/man/man1/steepest.1.gz || -e $root/usr/share/man/man1/steepest.1 ]]
[[ $(readelf -d "$root/usr/bin/steepest") != *RUNPATH* ]] || fail 'the tool has a path of its own'
LD_LIBRARY_PATH=$(dirname "$library") "$root/usr/bin/steepest" selftest
