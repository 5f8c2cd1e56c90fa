// SPDX-License-Identifier: Apache-2.0
#include "lab/page/html.hpp"

#include <fmt/format.h>

#include <map>

#include "cli/json_text.hpp"
#include "lab/page/page_assets.hpp"

namespace singleflight::lab {

namespace {

// Replaces the {{places}} of the page. The inserted text is not searched again, so no text can
// forge a place.
std::string fill(std::string_view page,
                 const std::map<std::string, std::string, std::less<>>& places) {
  std::string filled;
  while (true) {
    const auto open = page.find("{{");
    const auto close = open == std::string_view::npos ? open : page.find("}}", open);
    if (close == std::string_view::npos) return filled.append(page);
    filled.append(page.substr(0, open));
    if (const auto found = places.find(page.substr(open + 2, close - open - 2));
        found != places.end()) {
      filled += found->second;
    }
    page = page.substr(close + 2);
  }
}

}  // namespace

std::string escaped(std::string_view text) {
  std::string safe;
  for (const char c : text) {
    switch (c) {
      case '&': safe += "&amp;"; break;
      case '<': safe += "&lt;"; break;
      case '>': safe += "&gt;"; break;
      case '"': safe += "&quot;"; break;
      case '\'': safe += "&#39;"; break;
      default: safe += c;
    }
  }
  return safe;
}

std::string card(const std::string& value, bool good, const std::string& what) {
  return fmt::format("<div class=\"card\"><b{}>{}</b><span>{}</span></div>\n",
                     good ? " class=\"good\"" : "", value, what);
}

std::string about_entry(std::string_view name, const std::string& value) {
  return fmt::format("<dt>{}</dt><dd>{}</dd>\n", name, value);
}

std::string to_html(const report_page& page) {
  auto data = cli::to_text(page.data, -1);
  // Inside <script> only "</script" and "<!--" have a meaning; both begin with "<".
  for (std::size_t at = 0; (at = data.find('<', at)) != std::string::npos; at += 6)
    data.replace(at, 1, "\\u003c");
  return fill(page_html, {{"title", escaped(page.title)},
                          {"css", page_css},
                          {"js", std::string(chart_js) + page.script},
                          {"lead", escaped(page.lead)},
                          {"warning", page.warning},
                          {"cards", page.cards},
                          {"table_name", page.table_name},
                          {"table", page.table},
                          {"charts", page.charts},
                          {"about", "<dl>\n" + page.about + "</dl>"},
                          {"data", data},
                          {"footer", fmt::format("singleflight {}", escaped(page.version))}});
}

}  // namespace singleflight::lab
