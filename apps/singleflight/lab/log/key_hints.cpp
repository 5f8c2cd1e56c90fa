// SPDX-License-Identifier: Apache-2.0
#include "lab/log/key_hints.hpp"

#include <fmt/format.h>

#include "cli/units.hpp"

namespace singleflight::lab {

std::vector<std::string> key_hints::for_log(const log_request& request, const log_account& account,
                                            std::uint64_t requests, std::uint64_t distinct) const {
  constexpr std::uint64_t enough = 100;
  if (requests < enough) return {};
  const bool whole_url = request.how.key.from == key_choice::part::automatic ||
                         request.how.key.from == key_choice::part::url;
  const std::uint64_t paths = without_query_.size();
  if (whole_url && account.format.ends_with("URL") && paths * 10 <= distinct * 9) {
    return {fmt::format(
        "the query belongs to the key: {} distinct keys, without it {}; if the answer does not "
        "depend on it, use --key-from {}, or --ignore-query NAMES for some parameters",
        cli::show_count(distinct), cli::show_count(paths),
        account.format.ends_with("host and URL") ? "host+path" : "path")};
  }
  if (distinct * 20 > requests * 19) {
    return {fmt::format(
        "{} of {} requests have a key of their own: if the key is only a part of what was read, "
        "name it with --key-from",
        cli::show_count(distinct), cli::show_count(requests))};
  }
  return {};
}

}  // namespace singleflight::lab
