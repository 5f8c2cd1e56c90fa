// SPDX-License-Identifier: Apache-2.0

// Question   What does a source file cost to compile that has ten caches, each with a value type of
//            its own, and calls get once on each?
// Baseline   The same file, compiled with the headers of another commit (--against).
// Reading    The compiler's user time, and the bytes of machine code in the object file.

#include <cstddef>
#include <string>
#include <utility>

#include <singleflight/cache.hpp>

namespace {

/// A row of the I-th of ten tables.
template <std::size_t I>
struct row {
  std::string text;
  std::size_t table = I;
};

template <std::size_t I>
std::size_t get(const std::string& key) {
  singleflight::loading_cache<std::string, row<I>> rows(
      [](const std::string& loaded) { return row<I>{loaded}; }, {.capacity = 100});
  const auto found = rows.get(key);
  return found->text.size() + found->table;
}

}  // namespace

std::size_t get_all(const std::string& key);
std::size_t get_all(const std::string& key) {
  return [&]<std::size_t... I>(std::index_sequence<I...>) {
    return (get<I>(key) + ...);
  }(std::make_index_sequence<10>());
}
