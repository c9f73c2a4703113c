# SPDX-License-Identifier: Apache-2.0
# The shared and the static library, both linked from the objects that src/sources.list names.

# What every target of this project is compiled with, the tests and benchmarks included.
add_library(steepest_flags INTERFACE)
target_compile_features(steepest_flags INTERFACE cxx_std_20)
target_compile_options(steepest_flags INTERFACE
  -ffp-contract=off -Wall -Wextra -Wpedantic $<$<BOOL:${STEEPEST_WERROR}>:-Werror>)
if(STEEPEST_MATRIX_PROVIDER STREQUAL openblas)
  target_compile_definitions(steepest_flags INTERFACE STEEPEST_OPENBLAS_PROVIDER)
endif()

# What it takes to include the headers below src/. Of xsimd only the headers: Debian's target also
# links xtl, which they do not use.
add_library(steepest_internal INTERFACE)
target_include_directories(steepest_internal INTERFACE
  "${CMAKE_CURRENT_SOURCE_DIR}/include" "${CMAKE_CURRENT_SOURCE_DIR}/src")
target_include_directories(steepest_internal SYSTEM INTERFACE
  $<TARGET_PROPERTY:xsimd,INTERFACE_INCLUDE_DIRECTORIES>)
target_link_libraries(steepest_internal INTERFACE steepest_flags TBB::tbb)

set(list "${CMAKE_CURRENT_SOURCE_DIR}/src/sources.list")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${list}")
set(architecture "${CMAKE_SYSTEM_PROCESSOR}")
if(architecture MATCHES "^(AMD64|amd64)$")
  set(architecture x86_64)
elseif(architecture STREQUAL arm64)
  set(architecture aarch64)
endif()

file(STRINGS "${list}" flags_lines REGEX "^flags[ \t]")
foreach(line IN LISTS flags_lines)
  separate_arguments(flags UNIX_COMMAND "${line}")
  list(POP_FRONT flags keyword level level_architectures)
  set(flags_${level} ${flags})
  string(REPLACE "," ";" architectures_${level} "${level_architectures}")
endforeach()

add_library(steepest_objects OBJECT)
file(STRINGS "${list}" source_lines REGEX "^source[ \t]")
foreach(line IN LISTS source_lines)
  separate_arguments(words UNIX_COMMAND "${line}")
  list(POP_FRONT words keyword source level)
  if(NOT level)
    target_sources(steepest_objects PRIVATE "src/${source}")
  elseif(NOT DEFINED architectures_${level})
    message(FATAL_ERROR "src/sources.list: ${source} names the unknown level '${level}'")
  elseif(architecture IN_LIST architectures_${level})
    target_sources(steepest_objects PRIVATE "src/${source}")
    # Always optimized: what is not inlined becomes a weak symbol, which the linker may share with
    # code for lesser CPUs. Only a little with sanitizers and where lines are counted: those never
    # leave this machine.
    set(optimization -O3)
    if(CMAKE_CXX_FLAGS MATCHES "-fsanitize|--coverage")
      set(optimization -O1)
    endif()
    # A fuzzer is led by the branches outside of the kernels; theirs are the same for any input.
    if(CMAKE_CXX_FLAGS MATCHES "-fsanitize=[^ ]*fuzzer")
      list(APPEND optimization -fno-sanitize=fuzzer-no-link)
    endif()
    set_property(SOURCE "src/${source}" APPEND PROPERTY
      COMPILE_OPTIONS ${optimization} ${flags_${level}})
  endif()
endforeach()

# What oneTBB does between its threads ThreadSanitizer cannot see, so it is not shown any of it:
# parallel_for.cpp says how tasks are ordered.
if(CMAKE_CXX_FLAGS MATCHES "-fsanitize=thread")
  set_property(SOURCE src/parallel/tbb_executor.cpp APPEND PROPERTY
    COMPILE_OPTIONS -fno-sanitize=thread)
endif()

set_target_properties(steepest_objects PROPERTIES
  CXX_EXTENSIONS OFF
  CXX_VISIBILITY_PRESET hidden
  VISIBILITY_INLINES_HIDDEN ON
  POSITION_INDEPENDENT_CODE ON
  INTERPROCEDURAL_OPTIMIZATION OFF)
# To Clang, -Wconversion in C++ includes the changes of sign too.
target_compile_options(steepest_objects PRIVATE
  -fno-lto -Wshadow -Wconversion -Wno-sign-conversion)
target_link_libraries(steepest_objects PRIVATE steepest_internal)
target_include_directories(steepest_objects SYSTEM PRIVATE
  "${STEEPEST_CBLAS_INCLUDE}" "${STEEPEST_LAPACKE_INCLUDE}")

add_library(steepest_shared SHARED $<TARGET_OBJECTS:steepest_objects>)
set(map "${CMAKE_CURRENT_SOURCE_DIR}/src/steepest.map")
set_target_properties(steepest_shared PROPERTIES
  SOVERSION ${STEEPEST_ABI_VERSION} LINK_DEPENDS "${map}")
# nodelete: dlclose would unmap oneTBB while its threads still run.
target_link_options(steepest_shared PRIVATE "-Wl,--version-script=${map}" -Wl,-z,nodelete)
# A sanitizer's functions come with the executable.
if(NOT CMAKE_CXX_FLAGS MATCHES "-fsanitize")
  target_link_options(steepest_shared PRIVATE -Wl,--no-undefined)
endif()

add_library(steepest_static STATIC $<TARGET_OBJECTS:steepest_objects>)

foreach(library steepest_shared steepest_static)
  set_target_properties(${library} PROPERTIES OUTPUT_NAME steepest LINKER_LANGUAGE CXX)
  target_include_directories(${library} INTERFACE "${CMAKE_CURRENT_SOURCE_DIR}/include")
  target_link_libraries(${library} PRIVATE TBB::tbb "${STEEPEST_LAPACKE}" "${STEEPEST_OPENBLAS}")
endforeach()

add_library(steepest::shared ALIAS steepest_shared)
add_library(steepest::static ALIAS steepest_static)
if(DEFINED BUILD_SHARED_LIBS AND NOT BUILD_SHARED_LIBS)
  add_library(steepest::steepest ALIAS steepest_static)
else()
  add_library(steepest::steepest ALIAS steepest_shared)
endif()
