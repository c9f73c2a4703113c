# SPDX-License-Identifier: Apache-2.0
# meson.build installs the same files from the same templates.

install(TARGETS steepest_shared steepest_static
  LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
    COMPONENT runtime NAMELINK_COMPONENT development
  ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT development)

foreach(name steepest.h steepest.hpp)
  if(EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/include/steepest/${name}")
    install(FILES "include/steepest/${name}" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/steepest"
      COMPONENT development)
  endif()
endforeach()

# The installed files find each other by relative paths, so that the tree can be moved.
cmake_path(RELATIVE_PATH CMAKE_INSTALL_FULL_INCLUDEDIR
  BASE_DIRECTORY "${CMAKE_INSTALL_FULL_LIBDIR}" OUTPUT_VARIABLE STEEPEST_LIBDIR_TO_INCLUDEDIR)
set(generated "${CMAKE_CURRENT_BINARY_DIR}/installed")
foreach(name steepest.pc steepest-config.cmake steepest-config-version.cmake)
  configure_file("cmake/${name}.in" "${generated}/${name}" @ONLY)
endforeach()
install(FILES "${generated}/steepest.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig"
  COMPONENT development)
install(FILES "${generated}/steepest-config.cmake" "${generated}/steepest-config-version.cmake"
  DESTINATION "${CMAKE_INSTALL_LIBDIR}/cmake/steepest" COMPONENT development)
