// SPDX-License-Identifier: Apache-2.0
#include "lab/log/key_choice.hpp"

#include <fmt/format.h>

#include "cli/units.hpp"
#include "cli/usage_error.hpp"

namespace singleflight::lab {

key_choice key_choice::parse(std::string_view text) {
  key_choice choice;
  if (text == "path") {
    choice.from = part::path;
  } else if (text == "url") {
    choice.from = part::url;
  } else if (text == "query") {
    choice.from = part::query;
  } else if (text.starts_with("field=")) {
    choice.from = part::field;
    choice.field = cli::parse_count("--key-from field", text.substr(6), {1, 1000, "field=1"});
  } else if (text.starts_with("column=") && text.size() > 7) {
    choice.from = part::column;
    choice.column = text.substr(7);
  } else {
    throw cli::usage_error(
        fmt::format("--key-from: '{}' is not path, url, query, field=N or column=NAME; for example "
                    "--key-from path",
                    cli::one_line(text, 40)));
  }
  return choice;
}

}  // namespace singleflight::lab
