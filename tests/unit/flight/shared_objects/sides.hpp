// SPDX-License-Identifier: Apache-2.0
#pragma once

// The interface of two shared objects, each with a group of its own, compiled with hidden
// visibility.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>

#include <singleflight/core/errors.hpp>

#define SINGLEFLIGHT_TEST_EXPORT __attribute__((visibility("default")))

namespace shared_objects {

/// The process-wide objects, as a side's own copy of the library sees them.
struct process_wide {
  const void* pool;
  const void* timer;
  const void* category;
  const void* graph;
  const void* this_thread;
  const void* hash_secret;
  std::size_t hash;  ///< of 7
};

/// Runs `inside` as the load of `key` in the side's group; returns the resulting errc, if any.
using run_function = std::optional<singleflight::flight_errc>(int key,
                                                              const std::function<void()>& inside);

SINGLEFLIGHT_TEST_EXPORT run_function run_in_a;
SINGLEFLIGHT_TEST_EXPORT run_function run_in_b;
SINGLEFLIGHT_TEST_EXPORT std::uint64_t flight_id_in_a();
SINGLEFLIGHT_TEST_EXPORT std::uint64_t flight_id_in_b();
SINGLEFLIGHT_TEST_EXPORT process_wide seen_by_a();
SINGLEFLIGHT_TEST_EXPORT process_wide seen_by_b();
/// Throws the library's own error.
[[noreturn]] SINGLEFLIGHT_TEST_EXPORT void throw_in_a();

}  // namespace shared_objects
