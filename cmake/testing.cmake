# SPDX-License-Identifier: Apache-2.0
#
# The folder of a test file determines its test. A new *_test.cpp is found automatically.

include_guard(GLOBAL)
include(GoogleTest)

# singleflight_add_test_executable(<name> LABEL <label> SOURCES <file>... [FLOOR <floor>]
#                                  [TIMEOUT <seconds>] [PROCESSORS <n>] [LINK <target>...]
#                                  [OPTIONS <compile option>...] [COMPILED])
#
# Adds one GoogleTest executable; each of its cases is a ctest named <name>.<suite>.<case>. With a
# sanitizer, a process takes a tenth of a second to begin and to end, so there a unit test is split
# into four ctests, <name>.1 to <name>.4. With COMPILED the executable is linked with
# singleflight::compiled, which takes less time to build, else it uses the headers alone. If FLOOR
# is another part of the project (lab), it is linked with that part as well.
function(singleflight_add_test_executable name)
  cmake_parse_arguments(
    PARSE_ARGV 1 arg "COMPILED" "LABEL;FLOOR;TIMEOUT;PROCESSORS" "SOURCES;LINK;OPTIONS"
  )
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 60)
  endif()
  if(NOT arg_PROCESSORS)
    set(arg_PROCESSORS 1)
  endif()
  get_property(floors GLOBAL PROPERTY SINGLEFLIGHT_FLOORS)
  set(under_test singleflight::singleflight)
  if(arg_COMPILED)
    set(under_test singleflight::compiled)
  endif()
  if(NOT arg_FLOOR IN_LIST floors AND TARGET singleflight_${arg_FLOOR})
    list(APPEND under_test singleflight_${arg_FLOOR})
  endif()

  add_executable(${name} ${arg_SOURCES})
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}/tests")
  target_link_libraries(
    ${name} PRIVATE ${under_test} singleflight_warnings GTest::gmock GTest::gtest_main
                    $<TARGET_NAME_IF_EXISTS:rapidcheck_gtest> ${arg_LINK}
  )
  target_compile_options(${name} PRIVATE ${arg_OPTIONS})
  if(SINGLEFLIGHT_SANITIZE AND arg_LABEL STREQUAL "unit")
    foreach(quarter RANGE 1 4)
      math(EXPR index "${quarter} - 1")
      add_test(NAME ${name}.${quarter} COMMAND ${name} WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}")
      set_tests_properties(
        ${name}.${quarter}
        PROPERTIES
          LABELS unit TIMEOUT 300 ENVIRONMENT
          "GTEST_TOTAL_SHARDS=4;GTEST_SHARD_INDEX=${index};${singleflight_test_environment}"
      )
    endforeach()
    return()
  endif()
  gtest_discover_tests(
    ${name}
    TEST_PREFIX "${name}."
    WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}"
    DISCOVERY_TIMEOUT 60
    PROPERTIES LABELS ${arg_LABEL} TIMEOUT ${arg_TIMEOUT} PROCESSORS ${arg_PROCESSORS} ENVIRONMENT
               "${singleflight_test_environment}"
  )
endfunction()

# singleflight_add_test_folders(<kind> [TIMEOUT <seconds>] [PROCESSORS <n>])
#
# tests/<kind>/<floor>/*_test.cpp becomes one executable <kind>_<floor>, labelled <kind>; left out
# when the target singleflight_<floor> is not part of this build.
function(singleflight_add_test_folders kind)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "TIMEOUT;PROCESSORS" "")
  if(NOT DEFINED singleflight_test_form) # an undefined one would mean the headers alone
    message(FATAL_ERROR "singleflight_test_form is not set: cmake/developer.cmake chooses it")
  endif()
  file(GLOB sources CONFIGURE_DEPENDS "${kind}/*/*_test.cpp")
  set(floors "")
  foreach(source IN LISTS sources)
    cmake_path(GET source PARENT_PATH folder)
    cmake_path(GET folder FILENAME floor)
    list(APPEND floors ${floor})
    list(APPEND sources_${floor} ${source})
  endforeach()
  list(REMOVE_DUPLICATES floors)
  foreach(floor IN LISTS floors)
    if(NOT TARGET singleflight_${floor})
      continue()
    endif()
    singleflight_add_test_executable(
      ${kind}_${floor}
      LABEL ${kind}
      FLOOR ${floor}
      SOURCES ${sources_${floor}}
      TIMEOUT ${arg_TIMEOUT}
      PROCESSORS ${arg_PROCESSORS} ${singleflight_test_form}
    )
    singleflight_compile_in_batches(${kind}_${floor})
    singleflight_precompile(${kind}_${floor} tests)
  endforeach()
endfunction()
