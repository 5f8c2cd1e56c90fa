// SPDX-License-Identifier: Apache-2.0

// What it costs to compile one more loader: this file with RUNS loaders for run() and STARTS for
// start(). text.py compares how much machine code results.

#include <cstddef>
#include <string>
#include <utility>

#include <singleflight/flight.hpp>

namespace {

using strings = singleflight::group<std::string, std::string>;

template <std::size_t I>
std::string run(strings& flights, const std::string& key) {
  return *flights.run(key, [&] { return key + std::to_string(I); });
}
template <std::size_t I>
singleflight::flight<std::string> start(strings& flights, const std::string& key) {
  return flights.start(key, [key] { return key + std::to_string(I); });
}

}  // namespace

/// Calls each loader once and ignores the results.
void call_all(strings& flights, const std::string& key);
void call_all(strings& flights, const std::string& key) {
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    ((void)run<I>(flights, key), ...);
  }(std::make_index_sequence<RUNS>());
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    ((void)start<I>(flights, key), ...);
  }(std::make_index_sequence<STARTS>());
}
