#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# check_system.sh FOLDER: installs the Debian packages of that folder with apt into a new, minimal
# system of this release (debootstrap, as root, with a network) and builds and runs programs there:
#   with the library's package alone, a program that was built elsewhere runs;
#   with libsteepest-dev, programs are built by CMake and pkg-config, shared and static;
#   when both are purged, nothing is left.
# Status 77: what it takes is not there.
set -euo pipefail
folder=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)

skip() {
  echo "$*"
  exit 77
}

fail() {
  echo "check_system: $*" >&2
  exit 1
}

((EUID == 0)) || skip 'not root'
command -v debootstrap >/dev/null || skip 'no debootstrap'
release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
grep -qx 'ID=debian' /etc/os-release || skip 'no Debian system'

root=$(mktemp -d)
chmod 755 "$root"
trap 'umount "$root/proc" 2>/dev/null || true; rm -rf --one-file-system "$root"' EXIT
debootstrap --variant=minbase "$release" "$root" ||
  skip "debootstrap cannot make a system of Debian $release here"
mount -t proc proc "$root/proc" || skip 'nothing can be mounted here'

inside() {
  DEBIAN_FRONTEND=noninteractive chroot "$root" "$@"
}

install() {
  inside apt-get install -qy --no-install-recommends "$@"
}

mkdir "$root/packages" "$root/consumers"
cp "$folder"/*.deb "$root/packages"
cp -R "$here"/. "$root/consumers"
inside apt-get update -q

# Built here against the unpacked packages.
mkdir "$root/unpacked"
for package in "$folder"/*.deb; do
  dpkg-deb -x "$package" "$root/unpacked"
done
library=$(dirname "$(find "$root/unpacked" -name libsteepest.so)")
"${CC:-cc}" -std=c99 "$here/consumer.c" -I "$root/unpacked/usr/include" -L "$library" -lsteepest \
  -Wl,--allow-shlib-undefined -o "$root/consumers/elsewhere"
rm -r "$root/unpacked"

runtime=$(dpkg-deb -f "$folder"/libsteepest[0-9]*_*.deb Package)
install "/packages/$(basename "$folder"/libsteepest[0-9]*_*.deb)"
inside /consumers/elsewhere
[[ -z $(inside find /usr -name 'steepest*.h*') ]] || fail 'the library comes with headers'

install "/packages/$(basename "$folder"/libsteepest-dev_*.deb)" g++ cmake ninja-build pkg-config
for kind in find_package versions pkg-config; do
  inside /consumers/check_consumer.sh "$kind" /usr
done

inside apt-get purge -qy libsteepest-dev "$runtime"
left=$(inside find / -xdev -not -path '/packages/*' -not -path '/consumers/*' -not -path '/proc/*' \
  -name '*steepest*')
[[ -z $left ]] || fail "left after purging: $left"
echo "$runtime and libsteepest-dev in a new system of Debian $release"
