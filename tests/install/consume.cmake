# SPDX-License-Identifier: Apache-2.0
#
# Builds and runs tests/install/consumer against a fresh install, or with the sources as a
# subdirectory.

function(step)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE said ERROR_VARIABLE said)
  if(NOT status EQUAL 0)
    list(JOIN ARGN " " command)
    message("${said}")
    message(FATAL_ERROR "failed (${status}): ${command}")
  endif()
endfunction()

file(REMOVE_RECURSE "${work_dir}")
set(prefix "${work_dir}/prefix")
set(build "${work_dir}/build")

set(options -DCMAKE_CXX_COMPILER=${compiler} -DCMAKE_BUILD_TYPE=Release -DWAY=${way})
if(way STREQUAL "find_package")
  step(${CMAKE_COMMAND} --install ${binary_dir} --prefix ${prefix} --component singleflight)
  list(APPEND options -DCMAKE_PREFIX_PATH=${prefix} -DSINGLEFLIGHT_VERSION=${version})
else()
  list(APPEND options -DSINGLEFLIGHT_SOURCE_DIR=${source_dir})
endif()

step(${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR}/consumer -B ${build} -G ${generator} ${options})
step(${CMAKE_COMMAND} --build ${build})
step(${build}/consumer)
if(EXISTS ${build}/consumer_of_compiled)
  step(${build}/consumer_of_compiled)
endif()
