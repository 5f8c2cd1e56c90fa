# SPDX-License-Identifier: Apache-2.0
with section("format"):
    line_width = 100
    tab_size = 2
    dangle_parens = True
    max_pargs_hwrap = 8
    max_subgroups_hwrap = 4
    max_prefix_chars = 12

with section("markup"):
    enable_markup = False

with section("parse"):
    additional_commands = {
        "singleflight_add_floor": {"pargs": 1, "kwargs": {"DEPENDS": "+"}},
        "singleflight_add_test_executable": {
            "pargs": 1,
            "kwargs": {
                "LABEL": 1, "FLOOR": 1, "TIMEOUT": 1, "PROCESSORS": 1,
                "SOURCES": "+", "LINK": "+", "OPTIONS": "+",
            },
        },
        "singleflight_add_test_folders": {"pargs": 1, "kwargs": {"TIMEOUT": 1, "PROCESSORS": 1}},
        "gtest_discover_tests": {
            "pargs": 1,
            "kwargs": {
                "TEST_PREFIX": 1, "WORKING_DIRECTORY": 1, "DISCOVERY_TIMEOUT": 1, "PROPERTIES": "*",
            },
        },
    }
