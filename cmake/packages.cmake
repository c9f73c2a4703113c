# SPDX-License-Identifier: Apache-2.0
# `cpack -G DEB` in a build directory configured with CMAKE_INSTALL_PREFIX=/usr: libsteepest1, the
# library that programs load, which may lie beside that of another binary interface, libsteepest2;
# libsteepest-dev, what it takes to build them; and steepest-tools, the command-line tool, if it is
# built.

set(CPACK_PACKAGE_NAME steepest)
set(CPACK_PACKAGE_VENDOR "The Steepest authors")
# A stand-in, until there is an address: packaging/README.md.
set(STEEPEST_MAINTAINER "The Steepest authors <steepest@localhost>" CACHE STRING
  "The Maintainer field of packages")
set(CPACK_PACKAGE_CONTACT "${STEEPEST_MAINTAINER}")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(components runtime development)
if(TARGET steepest_tool)
  list(APPEND components tools)
endif()
set(CPACK_COMPONENTS_ALL ${components})
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)

set(runtime libsteepest${STEEPEST_ABI_VERSION})
set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME ${runtime})
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_RUNTIME_DESCRIPTION
  "AdamW, Muon and the matrix sign, vectorised, for any language with a C FFI. The shared library.")

set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME libsteepest-dev)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
# Besides the shared library, what linking the static one needs.
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS
  "${runtime} (= ${STEEPEST_VERSION}), libtbb-dev, libopenblas-dev, liblapacke-dev")
set(CPACK_DEBIAN_DEVELOPMENT_DESCRIPTION
  "Headers, static library, CMake package and pkg-config file.")

set(CPACK_DEBIAN_TOOLS_PACKAGE_NAME steepest-tools)
set(CPACK_DEBIAN_TOOLS_PACKAGE_SECTION science)
set(CPACK_DEBIAN_TOOLS_PACKAGE_SHLIBDEPS ON)
# The library's own package has not been made when the tool is asked what it links.
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS "${CMAKE_BINARY_DIR}")
set(CPACK_DEBIAN_TOOLS_PACKAGE_DEPENDS "${runtime} (= ${STEEPEST_VERSION})")
set(CPACK_DEBIAN_TOOLS_DESCRIPTION
  "The command steepest: the library's self-test and benchmarks, schedules, matrices of one's own.")

# In packages only.
foreach(component IN LISTS components)
  string(TOUPPER ${component} upper)
  install(FILES LICENSE DESTINATION "share/doc/${CPACK_DEBIAN_${upper}_PACKAGE_NAME}"
    RENAME copyright COMPONENT ${component} EXCLUDE_FROM_ALL)
endforeach()

include(CPack)
