// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace singleflight::lab {

/// Text from outside, fit for a page's body and for its attributes.
std::string escaped(std::string_view text);

/// A figure in large type, and what it is; green when it is `good`. Both are HTML.
std::string card(const std::string& figure, bool good, const std::string& what);

/// One entry of a list of terms (<dl>). Both are HTML.
std::string about_entry(std::string_view name, const std::string& value);

/// The parts of a report; all but `title`, `lead`, `data` and `version` are HTML or a script.
struct report_page {
  std::string title;
  std::string lead;
  std::string warning = {};
  std::string cards = {};
  std::string figures_of;  // "Figures of each protection": the table's name, for a screen reader
  std::string table;
  const char* charts;  // the panels, each with a place that the script fills
  const char* script;
  std::string about;  // what stands in its list of terms
  nlohmann::ordered_json data;
  std::string version;
};

/// One self-contained page.
std::string to_html(const report_page& page);

}  // namespace singleflight::lab
