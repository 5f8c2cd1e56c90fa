// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace singleflight::lab {

/// Splits one line of CSV (RFC 4180): quoted fields may contain commas and doubled quotes. Returns
/// false, with `fields` unspecified, if a quoted field does not end or text follows its closing
/// quote. A record is one line: a line break inside quotes makes both of its lines malformed.
bool split_csv(std::string_view line, std::vector<std::string>& fields);

}  // namespace singleflight::lab
