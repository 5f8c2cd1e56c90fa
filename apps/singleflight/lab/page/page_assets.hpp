// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace singleflight::lab {

/// The contents of the page's files in this folder, compiled into the program.
extern const char* const page_html;
extern const char* const page_css;
extern const char* const chart_js;
extern const char* const replay_charts_html;
extern const char* const replay_js;
extern const char* const hit_ratio_charts_html;
extern const char* const hit_ratio_js;
extern const char* const simulation_charts_html;
extern const char* const simulation_js;

}  // namespace singleflight::lab
