// SPDX-License-Identifier: Apache-2.0
#include "lab/protection/flight_protection.hpp"

#include <string>
#include <utility>

#include <singleflight/flight.hpp>

namespace singleflight::lab {

namespace {

class flight_protection : public protection {
 public:
  explicit flight_protection(backend& asked) : asked_(asked) {}

  reply ask(const std::string& key, steady_time deadline) override {
    reply got;
    bool led = false;
    const auto load = [&](flight_context& flight) {
      led = true;
      // A joiner may have a later deadline than the leader: the load may wait for its turn until
      // the last deadline.
      return asked_.load(key, [&flight] { return flight.deadline(); });
    };
    auto outcome = flights_.run(as_outcome, key, load, {.deadline = deadline});
    if (outcome) {
      const auto& answer = *outcome;
      got.from = led ? reply::origin::own_load : reply::origin::shared;
      got.empty = answer->rows == 0;
      return got;
    }
    if (const auto refused = outcome.errc()) {
      got.error = describe_refusal(*refused);
      return got;
    }
    got.error = describe_failure(outcome.exception());
    if (got.error->asked) got.from = led ? reply::origin::own_load : reply::origin::shared;
    return got;
  }

 private:
  backend& asked_;
  group<std::string, row> flights_;
};

}  // namespace

std::unique_ptr<protection> make_flight_protection(backend& asked) {
  return std::make_unique<flight_protection>(asked);
}

}  // namespace singleflight::lab
