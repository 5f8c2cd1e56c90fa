# SPDX-License-Identifier: Apache-2.0
#
# Compiles one file. X.pass.cpp and X.quiet.cpp must compile. X.fail.cpp must fail, and what the
# compiler says must match the regular expression in its line `// expect: REGEX`; where it has a
# line `// errors: N`, it must not say more errors than that.
#
#   cmake -Dcompile=<command;and;options> -Dsource=<file> -P expect_compile.cmake

execute_process(
  COMMAND ${compile} -c ${source} -o /dev/null RESULT_VARIABLE status OUTPUT_VARIABLE said
  ERROR_VARIABLE said
)

if(source MATCHES "\\.(pass|quiet)\\.cpp$")
  if(NOT status EQUAL 0)
    message("${said}")
    message(FATAL_ERROR "${source} must compile, and does not")
  endif()
  return()
endif()

file(STRINGS ${source} expectation REGEX "^// expect: " LIMIT_COUNT 1)
if(NOT expectation)
  message(FATAL_ERROR "${source} has no line `// expect: REGEX`")
endif()
string(REGEX REPLACE "^// expect: " "" expectation "${expectation}")
if(status EQUAL 0)
  message(FATAL_ERROR "${source} compiles, and must not; expected: ${expectation}")
endif()
file(STRINGS ${source} bound REGEX "^// errors: [0-9]+$" LIMIT_COUNT 1)
if(bound)
  string(REGEX REPLACE "^// errors: " "" bound "${bound}")
  string(REGEX MATCHALL " error: " errors "${said}")
  list(LENGTH errors count)
  if(count GREATER bound)
    message("${said}")
    message(FATAL_ERROR "${source} fails with ${count} errors, and must with ${bound} at most")
  endif()
endif()
if(NOT said MATCHES "${expectation}")
  message("${said}")
  message(FATAL_ERROR "${source} fails with other words than: ${expectation}")
endif()
