// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "lab/protection/protection.hpp"

namespace singleflight::lab {

/// At most one load per key at a time; concurrent requests for the key share its answer.
std::unique_ptr<protection> make_flight_protection(backend& asked);

}  // namespace singleflight::lab
