# SPDX-License-Identifier: Apache-2.0
#
# Settings for the project's own code only: warnings as errors, sanitizers, ccache. They do not
# apply to a consumer's targets.

include_guard(GLOBAL)

# singleflight_compile_in_batches(<target>): if the build enables it, compiles up to eight files of
# one folder at once. This halves the time of a build from scratch, most of which is spent on code
# that the files all include and instantiate; after a change to one file the build takes longer. So
# names without linkage must be distinct within a folder.
function(singleflight_compile_in_batches target)
  if(NOT SINGLEFLIGHT_UNITY)
    return()
  endif()
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_MODE GROUP)
  # A batch needs up to 2 GB in g++, which from 128 MB on spends a tenth of the time on looking for
  # memory that it could free; it begins at 1 GB instead.
  target_compile_options(
    ${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:--param=ggc-min-heapsize=1000000>
  )
  get_target_property(sources ${target} SOURCES)
  foreach(source IN LISTS sources)
    cmake_path(GET source PARENT_PATH folder)
    cmake_path(GET folder FILENAME folder)
    list(APPEND in_${folder} ${source})
    list(LENGTH in_${folder} count)
    math(EXPR batch "(${count} - 1) / 8")
    set_source_files_properties(${source} PROPERTIES UNITY_GROUP "${folder}_${batch}")
  endforeach()
endfunction()

# singleflight_precompile(<target> <of>): if the build enables it, the target's files begin with a
# precompiled header, which takes half of the time of a small file and a fifth of that of a batch:
#   program           the library
#   tests             the library in the form that is tested, and GoogleTest
# A file that includes too little is found by the builds that precompile nothing (dev, lint). With
# ccache nothing is precompiled, since it does not store objects that use a precompiled header.
function(singleflight_precompile target of)
  if(NOT SINGLEFLIGHT_PRECOMPILE OR SINGLEFLIGHT_CCACHE)
    return()
  endif()
  set(precompiled singleflight_precompiled_${of})
  if(NOT TARGET ${precompiled})
    set(empty "${PROJECT_BINARY_DIR}/${precompiled}.cpp")
    file(WRITE "${empty}" "")
    add_library(${precompiled} OBJECT "${empty}")
    set(headers <iostream> <map> <set> <thread> <singleflight/cache.hpp> <singleflight/sync.hpp>)
    if(of STREQUAL "tests")
      list(APPEND headers <gmock/gmock.h> <gtest/gtest.h>)
      target_link_libraries(${precompiled} PRIVATE GTest::gmock)
    endif()
    if(of STREQUAL "tests" AND singleflight_test_form)
      target_link_libraries(${precompiled} PRIVATE singleflight::compiled)
    else()
      target_link_libraries(${precompiled} PRIVATE singleflight::singleflight)
    endif()
    target_link_libraries(${precompiled} PRIVATE singleflight_warnings)
    target_precompile_headers(${precompiled} PRIVATE ${headers})
  endif()
  target_precompile_headers(${target} REUSE_FROM ${precompiled})
endfunction()

# The form of the library that the unit and stress tests use: an option of
# singleflight_add_test_executable.
set(singleflight_test_form COMPILED)
if(SINGLEFLIGHT_TEST_HEADERS_ALONE OR CMAKE_CROSSCOMPILING)
  set(singleflight_test_form "")
endif()

# singleflight_warnings: every target of the project links it PRIVATE.
add_library(singleflight_warnings INTERFACE)
target_compile_options(
  singleflight_warnings
  INTERFACE
    -Wall
    -Wextra
    -Wpedantic
    # In a batch, a local name may hide a name of another file (so only local names are checked),
    # and g++ treats a name that is local to an included file as visible to others.
    $<$<NOT:$<BOOL:$<TARGET_PROPERTY:UNITY_BUILD>>>:-Wshadow>
    -Wconversion
    -Wsign-conversion
    -Wold-style-cast
    -Woverloaded-virtual
    -Wcast-align
    -Wcast-qual
    -Wdouble-promotion
    -Wextra-semi
    -Wsuggest-override
    -Wundef
    $<$<AND:$<CXX_COMPILER_ID:GNU>,$<BOOL:$<TARGET_PROPERTY:UNITY_BUILD>>>:-Wshadow=local>
    $<$<AND:$<CXX_COMPILER_ID:GNU>,$<BOOL:$<TARGET_PROPERTY:UNITY_BUILD>>>:-Wno-subobject-linkage>
    $<$<CXX_COMPILER_ID:GNU>:-Wduplicated-cond>
    $<$<CXX_COMPILER_ID:GNU>:-Wduplicated-branches>
    $<$<CXX_COMPILER_ID:GNU>:-Wlogical-op>
    # In instrumented code, g++ 12 reports uninitialised members for every optional and variant.
    $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>
    $<$<BOOL:${SINGLEFLIGHT_WARNINGS_AS_ERRORS}>:-Werror>
)

# SINGLEFLIGHT_SANITIZE=thread | address,undefined: instruments every target of this build,
# including the tests.
set(singleflight_test_environment "")
if(SINGLEFLIGHT_SANITIZE)
  add_compile_options(-fsanitize=${SINGLEFLIGHT_SANITIZE} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${SINGLEFLIGHT_SANITIZE})
  if(SINGLEFLIGHT_SANITIZE MATCHES "undefined|address")
    add_compile_options(-fno-sanitize-recover=all)
  endif()
  if(SINGLEFLIGHT_SANITIZE MATCHES "address")
    add_compile_options(-fsanitize-address-use-after-scope)
  endif()
  if(SINGLEFLIGHT_SANITIZE STREQUAL "thread" AND CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    # If Clang's runtime is linked statically, a test cannot define its own operator new.
    execute_process(
      COMMAND "${CMAKE_CXX_COMPILER}" -print-file-name=libclang_rt.tsan-${CMAKE_SYSTEM_PROCESSOR}.so
      OUTPUT_VARIABLE singleflight_tsan OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY
    )
    get_filename_component(singleflight_tsan "${singleflight_tsan}" DIRECTORY)
    add_link_options(-shared-libsan "-Wl,-rpath,${singleflight_tsan}")
  endif()
  set(singleflight_test_environment
      "TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:history_size=4:atexit_sleep_ms=20"
      "ASAN_OPTIONS=detect_stack_use_after_return=1:check_initialization_order=1"
      "UBSAN_OPTIONS=print_stacktrace=1"
  )
endif()

# ccache identifies objects of earlier builds by content, not by time: a fresh clone builds from
# the cache.
if(NOT CMAKE_CXX_COMPILER_LAUNCHER)
  find_program(SINGLEFLIGHT_CCACHE ccache)
  mark_as_advanced(SINGLEFLIGHT_CCACHE)
  if(SINGLEFLIGHT_CCACHE)
    set(CMAKE_CXX_COMPILER_LAUNCHER "${SINGLEFLIGHT_CCACHE}")
  endif()
endif()
