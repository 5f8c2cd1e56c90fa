// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace singleflight::lab {

/// Escapes text from outside for the body of a page and for attributes.
std::string escaped(std::string_view text);

/// A value in large type and its description; green if it is `good`. Both are HTML.
std::string card(const std::string& value, bool good, const std::string& what);

/// One entry of a list of terms (<dl>). Both are HTML.
std::string about_entry(std::string_view name, const std::string& value);

/// The parts of a report; all except `title`, `lead`, `data` and `version` are HTML or a script.
struct report_page {
  std::string title;
  std::string lead;
  std::string warning = {};
  std::string cards = {};
  std::string table_name;  // for screen readers
  std::string table;
  const char* charts;  // the panels, each with an element that the script fills
  const char* script;
  std::string about;  // the entries of the list of terms
  nlohmann::ordered_json data;
  std::string version;
};

/// Makes one self-contained page.
std::string to_html(const report_page& page);

}  // namespace singleflight::lab
