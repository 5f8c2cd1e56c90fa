// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "lab/backend/backend.hpp"

namespace singleflight::lab {

/// The embedded database: a shop with products and orders, made anew for each run of the program,
/// the same each time. Its query is what a product page asks: which products did the customers who
/// bought this one buy most? Any key works: "1" to "500" are products, any other text is mapped to
/// one of them.
std::unique_ptr<backend> open_shop(std::size_t connections);

}  // namespace singleflight::lab
