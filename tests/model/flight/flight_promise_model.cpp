// SPDX-License-Identifier: Apache-2.0

// A promise that is destroyed unanswered while its loader runs.

#include <stdexcept>
#include <string>
#include <utility>

#include "model/flight/scene.hpp"

namespace {

using model::add_world;
using model::history;
using model::scene;
using model::two;
using model::world;
using singleflight::flight_errc;
using singleflight::flight_promise;

/// Loses the promise of load `number` to an exception.
void lose(flight_promise<int>&& promise, int number) {
  const auto lost = std::move(promise);
  history::step();
  throw std::domain_error("load " + std::to_string(number));
}

const add_world caught("46: a promise lost to an exception that its loader catches", two,
                       [](world& w) {
                         scene s(w);
                         s.h.may_end(flight_errc::broken);
                         s.thread([&] {
                           s.h.calls([&] {
                             auto f = s.flights.start(1, [&](flight_promise<int> p) {
                               const int n = s.h.begin_load();
                               try {
                                 lose(std::move(p), n);
                               } catch (const std::domain_error&) {
                                 history::step();
                               }
                               s.h.end_load();
                             });
                             s.drain();
                             return int{*std::move(f).get()};
                           });
                         });
                         s.thread([&] { s.run(); });
                         w.run();
                         s.finish();
                       });

const add_world leaving("46: a promise lost to an exception that leaves its loader", two,
                        [](world& w) {
                          scene s(w);
                          s.thread([&] {
                            s.h.calls([&] {
                              auto f = s.flights.start(1, [&](flight_promise<int> p) {
                                const int n = s.h.begin_load();
                                s.h.end_load();
                                lose(std::move(p), n);
                              });
                              s.drain();
                              return int{*std::move(f).get()};
                            });
                          });
                          s.thread([&] { s.run(); });
                          w.run();
                          s.finish();
                        });

}  // namespace
