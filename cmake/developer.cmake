# SPDX-License-Identifier: Apache-2.0
#
# What only our own code is built with: warnings as errors, sanitizers, ccache. A consumer gets none
# of it.

include_guard(GLOBAL)

# singleflight_warnings: link it PRIVATE from every target of ours.
add_library(singleflight_warnings INTERFACE)
target_compile_options(
  singleflight_warnings
  INTERFACE
    -Wall
    -Wextra
    -Wpedantic
    -Wshadow
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
    $<$<CXX_COMPILER_ID:GNU>:-Wduplicated-cond>
    $<$<CXX_COMPILER_ID:GNU>:-Wduplicated-branches>
    $<$<CXX_COMPILER_ID:GNU>:-Wlogical-op>
    # g++ 12 sees uninitialised members behind every optional and variant in instrumented code.
    $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>
    $<$<BOOL:${SINGLEFLIGHT_WARNINGS_AS_ERRORS}>:-Werror>
)

# SINGLEFLIGHT_SANITIZE=thread | address,undefined: every target of this build, ours and the tests',
# is instrumented.
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
  set(singleflight_test_environment
      "TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:history_size=4"
      "ASAN_OPTIONS=detect_stack_use_after_return=1:check_initialization_order=1"
      "UBSAN_OPTIONS=print_stacktrace=1"
  )
endif()

# Tells objects of earlier builds apart by content, not by time: a fresh clone builds from the
# cache.
if(NOT CMAKE_CXX_COMPILER_LAUNCHER)
  find_program(SINGLEFLIGHT_CCACHE ccache)
  mark_as_advanced(SINGLEFLIGHT_CCACHE)
  if(SINGLEFLIGHT_CCACHE)
    set(CMAKE_CXX_COMPILER_LAUNCHER "${SINGLEFLIGHT_CCACHE}")
  endif()
endif()
