# SPDX-License-Identifier: Apache-2.0
#
# A folder of include/singleflight is a floor, and a floor is a target: its headers are
# include/singleflight/<floor>/**.hpp and the umbrella include/singleflight/<floor>.hpp.

include_guard(GLOBAL)

# singleflight_add_floor(<floor> [DEPENDS <target>...])
#
# Defines the header-only target singleflight_<floor>, alias singleflight::<floor>. DEPENDS names
# the floors below and any other target that the headers need; a floor includes only headers of
# these.
function(singleflight_add_floor floor)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "DEPENDS")
  set(root "${PROJECT_SOURCE_DIR}/include")

  file(GLOB_RECURSE headers CONFIGURE_DEPENDS "${root}/singleflight/${floor}/*.hpp")
  file(GLOB umbrella CONFIGURE_DEPENDS "${root}/singleflight/${floor}.hpp")

  add_library(singleflight_${floor} INTERFACE)
  add_library(singleflight::${floor} ALIAS singleflight_${floor})
  set_target_properties(singleflight_${floor} PROPERTIES EXPORT_NAME ${floor})
  target_compile_features(singleflight_${floor} INTERFACE cxx_std_20)
  target_link_libraries(singleflight_${floor} INTERFACE ${arg_DEPENDS})
  target_sources(
    singleflight_${floor} INTERFACE FILE_SET HEADERS BASE_DIRS "${root}" FILES ${headers}
                                    ${umbrella}
  )
  set_property(GLOBAL APPEND PROPERTY SINGLEFLIGHT_FLOORS ${floor})
endfunction()
