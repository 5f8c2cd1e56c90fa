// SPDX-License-Identifier: Apache-2.0

// Side a: the library, compiled into a shared object with hidden visibility.

#include <functional>
#include <optional>

#include "sides.hpp"
#include <singleflight/flight.hpp>

namespace shared_objects {
namespace {

singleflight::group<int, int>& group_here() {
  static singleflight::group<int, int> one;
  return one;
}

}  // namespace

std::optional<singleflight::flight_errc> run_in_a(int key, const std::function<void()>& inside) {
  return group_here()
      .run(singleflight::as_outcome, key,
           [&] {
             inside();
             return 1;
           })
      .errc();
}

std::uint64_t flight_id_in_a() {
  std::uint64_t id = 0;
  (void)group_here().run(-1, [&id](singleflight::flight_context& context) {
    id = context.flight_id();
    return 1;
  });
  return id;
}

process_wide seen_by_a() {
  return {&singleflight::default_pool(),        &singleflight::default_timer(),
          &singleflight::flight_category(),     &singleflight::detail::wait_graph::instance(),
          &singleflight::detail::this_thread(), &singleflight::detail::process_secret::value,
          singleflight::key_hash<int>{}(7)};
}

void throw_in_a() { throw singleflight::flight_error(singleflight::flight_errc::rejected); }

}  // namespace shared_objects
