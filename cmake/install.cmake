# SPDX-License-Identifier: Apache-2.0
#
# `cmake --install build --component singleflight` installs the headers and the package files that
# find_package(singleflight) reads.

include_guard(GLOBAL)
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

get_property(floors GLOBAL PROPERTY SINGLEFLIGHT_FLOORS)
set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/singleflight")

foreach(floor IN LISTS floors)
  install(
    TARGETS singleflight_${floor}
    EXPORT singleflight-targets
    FILE_SET HEADERS
    DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
    COMPONENT singleflight
  )
endforeach()
install(TARGETS singleflight_singleflight EXPORT singleflight-targets COMPONENT singleflight)
if(SINGLEFLIGHT_COMPILED)
  install(TARGETS singleflight_compiled EXPORT singleflight-targets COMPONENT singleflight)
endif()
install(EXPORT singleflight-targets NAMESPACE singleflight:: DESTINATION "${package_dir}"
        COMPONENT singleflight
)

configure_package_config_file(
  "${CMAKE_CURRENT_LIST_DIR}/singleflight-config.cmake.in"
  "${PROJECT_BINARY_DIR}/singleflight-config.cmake" INSTALL_DESTINATION "${package_dir}"
)
# Headers alone serve every machine; an archive does not.
set(any_machine ARCH_INDEPENDENT)
if(SINGLEFLIGHT_COMPILED)
  set(any_machine "")
endif()
write_basic_package_version_file(
  "${PROJECT_BINARY_DIR}/singleflight-config-version.cmake" COMPATIBILITY SameMinorVersion
                                                                          ${any_machine}
)
install(FILES "${PROJECT_BINARY_DIR}/singleflight-config.cmake"
              "${PROJECT_BINARY_DIR}/singleflight-config-version.cmake" DESTINATION "${package_dir}"
        COMPONENT singleflight
)
