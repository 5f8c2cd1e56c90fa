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

/// What one request got.
struct reply {
  enum class origin {
    own_load,  // it loaded itself
    shared,    // another load answered it, maybe long ago, or failed for it
    no_load    // it gave up, or was refused, before any load had an outcome for it
  };
  struct failure {
    std::string kind;
    std::string what;
    bool asked = true;  // something was asked of the backend
  };
  origin from = origin::no_load;
  bool empty = false;  // an answer without rows
  std::optional<failure> error;
};

/// protection: what stands between the callers and the backend. One object serves one run.
///
/// Threads     ask, from any thread.
class protection {
 public:
  virtual ~protection() = default;

  /// Blocks until there is an answer, or until `deadline` (max: no deadline) ends the wait for one
  /// that somebody else is loading. A deadline that has passed already loads nothing. Does not
  /// throw for a failed load.
  virtual reply ask(const std::string& key, steady_time deadline) = 0;

  /// What it did as a cache; empty if it is none.
  virtual std::optional<cache_counts> cached() const { return std::nullopt; }
};

/// The names that make_protection knows, in the order in which they are offered.
const std::vector<std::string>& protection_names();

/// Null for an unknown name. The settings are for `cache`.
std::unique_ptr<protection> make_protection(std::string_view name, backend& asked,
                                            const cache_settings& settings = {});

/// What a request gets whose deadline has passed before it could begin; empty if it has not.
std::optional<reply> refuse_late(steady_time deadline);

/// What a load's exception is called and says. Call it from a handler's exception.
reply::failure describe_failure(const std::exception_ptr& error);
/// The same for what the library itself says. Nothing was asked for this request.
reply::failure describe_refusal(flight_errc code);

}  // namespace singleflight::lab
