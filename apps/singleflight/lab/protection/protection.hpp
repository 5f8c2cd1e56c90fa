// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lab/backend/backend.hpp"
#include "lab/protection/cache_settings.hpp"
#include <singleflight/core/errors.hpp>

namespace singleflight::lab {

/// The outcome of one request.
struct reply {
  enum class origin {
    own_load,  // the request ran a load
    shared,    // it got the answer or failure of another load, perhaps an old one
    no_load    // it gave up or was refused before a load had an outcome for it
  };
  struct failure {
    std::string kind;
    std::string what;
    bool asked = true;  // whether the backend was reached
  };
  origin from = origin::no_load;
  bool empty = false;  // the answer has no rows
  std::optional<failure> error;
};

/// protection: serves the requests of the callers with loads of the backend. One object per run.
///
/// Threads     ask, from any thread.
class protection {
 public:
  virtual ~protection() = default;

  /// Blocks until there is an answer, or until `deadline` (max: none) expires while another request
  /// loads it. If the deadline has already expired, nothing is loaded. A failed load is returned,
  /// not thrown.
  virtual reply ask(const std::string& key, steady_time deadline) = 0;

  /// The counts of a cache; empty if this is not a cache.
  virtual std::optional<cache_counts> cached() const { return std::nullopt; }
};

/// The names that make_protection accepts, in the order in which messages list them.
const std::vector<std::string>& protection_names();

/// Returns null for an unknown name. The settings are those of `cache`.
std::unique_ptr<protection> make_protection(std::string_view name, backend& asked,
                                            const cache_settings& settings = {});

/// Returns the reply to a request whose deadline expired before it began; empty if it has not
/// expired.
std::optional<reply> refuse_late(steady_time deadline);

/// The kind and the message of an exception that a load threw.
reply::failure describe_failure(const std::exception_ptr& error);
/// The same for an error of the library itself; the request did not reach the backend.
reply::failure describe_refusal(flight_errc code);

}  // namespace singleflight::lab
