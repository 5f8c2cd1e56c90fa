// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "lab/backend/backend.hpp"

namespace singleflight::lab {

/// Opens the embedded database: a shop with products and orders, created by each run of the program
/// with the same content. Its query is the one of a product page: which products did the customers
/// who bought this one buy most? Any key works: "1" to "500" are products, any other text is mapped
/// to one of them.
std::unique_ptr<backend> open_shop(std::size_t connections);

}  // namespace singleflight::lab
