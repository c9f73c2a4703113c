# SPDX-License-Identifier: Apache-2.0
# Debian's cross compiler and its arm64 packages; what is built runs under qemu's user emulation.
# The loader and the libraries are those of the arm64 packages. With -L /usr/aarch64-linux-gnu (or
# QEMU_LD_PREFIX) qemu would take the cross compiler's older loader (2.36-8 against 2.36-9+deb12u14)
# with the packages' libc: their lists of stacks lie at different places, and the first
# pthread_create spins for ever.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_CROSSCOMPILING_EMULATOR env --unset=QEMU_LD_PREFIX qemu-aarch64-static)
