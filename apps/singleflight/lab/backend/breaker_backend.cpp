// SPDX-License-Identifier: Apache-2.0
#include "lab/backend/breaker_backend.hpp"

#include <exception>

namespace singleflight::lab {

row breaker_backend::load(const std::string& key, const patience& until) {
  std::exception_ptr did_not_reach_it;
  try {
    return breaker_.call([&] {
      try {
        return asked_.load(key, until);
      } catch (const not_asked&) {
        did_not_reach_it = std::current_exception();
        throw flight_error(flight_errc::cancelled);  // is neither a success nor a failure
      }
    });
  } catch (const flight_error&) {
    if (did_not_reach_it) std::rethrow_exception(did_not_reach_it);
    throw load_rejected();
  }
}

}  // namespace singleflight::lab
