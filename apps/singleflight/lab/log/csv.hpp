// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace singleflight::lab {

/// Splits one line of CSV (RFC 4180): fields in quotes may hold commas and doubled quotes. False,
/// with `fields` unspecified, if a quote does not end or text follows a closing quote. A record is
/// one line: a line break within quotes makes both of its lines malformed.
bool split_csv(std::string_view line, std::vector<std::string>& fields);

}  // namespace singleflight::lab
