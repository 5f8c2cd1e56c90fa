# SPDX-License-Identifier: Apache-2.0
#
# Every package that the project uses is looked up here and nowhere else. The library itself needs
# only threads; the other packages are for tests, the program and the benchmarks, and are looked up
# only if these are built.

include_guard(GLOBAL)

# singleflight_require(<package> <debian package> <reason>): find_package, or stop and print what
# to install.
macro(singleflight_require package debian_package reason)
  find_package(${package} QUIET)
  if(NOT ${package}_FOUND)
    message(FATAL_ERROR "singleflight: ${package} was not found; ${reason} need it. "
                        "On Debian: apt-get install ${debian_package}"
    )
  endif()
endmacro()

set(THREADS_PREFER_PTHREAD_FLAG ON)
singleflight_require(Threads libc6-dev "all targets")

if(SINGLEFLIGHT_BUILD_TESTS AND CMAKE_CROSSCOMPILING)
  # When cross-compiling, GoogleTest is built from its source.
  set(googletest /usr/src/googletest)
  if(NOT EXISTS "${googletest}/googletest/src/gtest-all.cc")
    message(FATAL_ERROR "singleflight: GoogleTest's source was not found; the tests on other "
                        "machines need it. On Debian: apt-get install googletest"
    )
  endif()
  add_library(
    singleflight_googletest STATIC
    "${googletest}/googletest/src/gtest-all.cc" "${googletest}/googletest/src/gtest_main.cc"
    "${googletest}/googlemock/src/gmock-all.cc"
  )
  target_include_directories(
    singleflight_googletest SYSTEM PUBLIC "${googletest}/googletest/include"
                                          "${googletest}/googlemock/include"
  )
  target_include_directories(
    singleflight_googletest PRIVATE "${googletest}/googletest" "${googletest}/googlemock"
  )
  target_link_libraries(singleflight_googletest PUBLIC Threads::Threads)
  add_library(GTest::gmock ALIAS singleflight_googletest)
  add_library(GTest::gtest_main ALIAS singleflight_googletest)
elseif(SINGLEFLIGHT_BUILD_TESTS)
  singleflight_require(GTest "libgtest-dev libgmock-dev" "the tests")
  singleflight_require(rapidcheck librapidcheck-dev "the property tests")
  find_package(Boost 1.81 QUIET COMPONENTS context)
  if(NOT Boost_FOUND)
    message(FATAL_ERROR "singleflight: Boost.Context was not found; the model tests need it. "
                        "On Debian: apt-get install libboost-context1.81-dev"
    )
  endif()
  find_package(Python3 QUIET COMPONENTS Interpreter)
  if(NOT Python3_Interpreter_FOUND)
    message(
      FATAL_ERROR
        "singleflight: python3 was not found; the test of the code in the documents needs it. "
        "On Debian: apt-get install python3"
    )
  endif()
endif()

if(SINGLEFLIGHT_BUILD_APPS)
  singleflight_require(SQLite3 libsqlite3-dev "the program's database backend")
  singleflight_require(ZLIB zlib1g-dev "gzip logs in the program")
  singleflight_require(zstd libzstd-dev "zstd logs in the program")
  singleflight_require(LibLZMA liblzma-dev "xz logs in the program")
  singleflight_require(BZip2 libbz2-dev "bzip2 logs in the program")
  singleflight_require(CLI11 libcli11-dev "the program's command line")
  singleflight_require(nlohmann_json nlohmann-json3-dev "the program's reports")
  singleflight_require(fmt libfmt-dev "the program's output")
endif()

if(SINGLEFLIGHT_BUILD_BENCH)
  singleflight_require(benchmark libbenchmark-dev "the benchmarks")
endif()
