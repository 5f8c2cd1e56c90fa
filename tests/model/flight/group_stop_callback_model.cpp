// SPDX-License-Identifier: Apache-2.0

// Stop callbacks of loads, on other threads, that would wait for their own load.

#include <optional>
#include <stop_token>
#include <utility>

#include "model/flight/scene.hpp"
#include "support/model/gate.hpp"
#include "support/task.hpp"

namespace {

using model::add_world;
using model::history;
using model::two;
using model::world;
using singleflight::flight_errc;
using singleflight::flight_error;
namespace platform = singleflight::detail::platform;

/// Checks that close is refused, unless the load is over.
template <class Group>
void close_is_refused(world& w, Group& flights, bool may_be_over) {
  try {
    flights.close();
  } catch (const flight_error& error) {
    w.check(error.errc() == flight_errc::recursive, "53: close was refused for another reason");
    return;
  }
  w.check(may_be_over, "53: close waits for the load that waits for it");
}

const add_world closes("53: a stop callback closes its group as the last caller leaves", two,
                       [](world& w) {
                         model::scene s(w);
                         model::gate begun;
                         auto f = std::make_optional(s.flights.start(1, [&](std::stop_token stop) {
                           const auto within = [&] { close_is_refused(w, s.flights, false); };
                           const platform::stop_callback<decltype(within)> callback(stop, within);
                           begun.open();
                           history::step();
                           return 1;
                         }));
                         s.thread([&] { s.drain(); });
                         s.thread([&] {
                           begun.wait();
                           f.reset();
                         });
                         w.run();
                         s.finish();
                       });

const add_world waits("53: a stop callback waits for its load", two, [](world& w) {
  model::scene s(w, {.on_abandon = singleflight::abandon::drain});
  model::gate begun;
  auto f = std::make_optional(s.flights.start(1, [&](std::stop_token stop) {
    const auto within = [&] {
      const auto got = s.flights.run(singleflight::as_outcome, 1, [] { return 2; });
      w.check(got.errc() == flight_errc::recursive, "53: a load was waited for by its callback");
    };
    const platform::stop_callback<decltype(within)> callback(stop, within);
    begun.open();
    history::step();
    return 1;
  }));
  s.thread([&] { s.drain(); });
  s.thread([&] {
    begun.wait();
    f.reset();
  });
  w.run();
  s.finish();
});

const add_world after("53: what runs inline as a leader is stopped closes the group", two,
                      [](world& w) {
                        model::ints flights({.executor = singleflight::inline_executor});
                        std::stop_source source;
                        model::gate begun;
                        w.thread([&] {
                          const auto load = [&] {
                            begun.open();
                            history::step();
                            return 1;
                          };
                          w.check(*flights.run(1, load, {.stop = source.get_token()}) == 1,
                                  "53: the leader was not given its own value");
                        });
                        w.thread([&] {
                          begun.wait();
                          auto f = flights.start_fresh(1, [] { return 2; });
                          std::move(f).on_ready(
                              [&](const auto&) { close_is_refused(w, flights, true); });
                        });
                        w.thread([&] {
                          begun.wait();
                          platform::request_stop(source);
                        });
                        w.run();
                      });

/// A load that waits, until its own token stops it, for another that hangs; its wait resumes on the
/// thread that requests the stop.
support::lazy<int> waits_until_stopped(model::ints& others, std::stop_token stop) {
  auto f = others.start(1, [] { return 2; });
  const auto got = co_await f.until(singleflight::timer::time_point::max(), std::move(stop))
                       .on(singleflight::inline_executor)
                       .as_outcome();
  co_return got.has_value() ? 0 : 3;
}
const add_world closer("53: close resumes the load that it waits for", two, [](world& w) {
  model::ints others({.executor = singleflight::inline_executor});
  model::ints flights({.executor = singleflight::inline_executor});
  std::optional<singleflight::flight_promise<int>> hung;
  auto hangs = others.start(1, [&](singleflight::flight_promise<int> p) { hung = std::move(p); });
  auto f = flights.start(
      1, [&](std::stop_token stop) { return waits_until_stopped(others, std::move(stop)); });
  w.thread([&] { flights.close(); });
  w.thread([&] { w.check(*f.get() == 3, "53: a load was not asked to stop"); });
  w.run();
  hung->set_value(1);
});

}  // namespace
