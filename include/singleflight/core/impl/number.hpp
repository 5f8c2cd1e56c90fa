// SPDX-License-Identifier: Apache-2.0
#pragma once

// number: rejects a number that the target type cannot hold.

#include <stdexcept>
#include <string>

#include "singleflight/core/support/number.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void refuse_number(const std::string& given) {
  throw std::invalid_argument("singleflight: " + given + " is no value of the type it is to be");
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
