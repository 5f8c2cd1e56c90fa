// SPDX-License-Identifier: Apache-2.0

// Question   What does a source file cost to compile that has one group and many loaders: ten for
//            run and ten for start, no two of one type?
// Baseline   The same file, compiled with the headers of another commit (--against).
// Reading    The compiler's user time, and the bytes of machine code in the object file.

#include <cstddef>
#include <string>
#include <utility>

#include <singleflight/flight.hpp>

namespace {

using strings = singleflight::group<std::string, std::string>;

template <std::size_t I>
std::size_t run(strings& flights, const std::string& key) {
  return flights.run(key, [&] { return key + std::to_string(I); })->size();
}

template <std::size_t I>
std::size_t start(strings& flights, const std::string& key) {
  return flights.start(key, [key] { return key + std::to_string(I); }).get()->size();
}

}  // namespace

std::size_t call_all(const std::string& key);
std::size_t call_all(const std::string& key) {
  strings flights;
  return [&]<std::size_t... I>(std::index_sequence<I...>) {
    return (run<I>(flights, key) + ...) + (start<I>(flights, key) + ...);
  }(std::make_index_sequence<10>());
}
