// SPDX-License-Identifier: Apache-2.0

// Many keys and one load, with concurrent callers of one of the keys.

#include <initializer_list>
#include <memory>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <vector>

#include "model/flight/scene.hpp"
#include "support/model/gate.hpp"

namespace {

using model::add_world;
using model::history;
using model::ints;
using model::limits;
using model::scene;
using model::world;

/// Key 1 is the hot one; the other keys are loaded as themselves.
struct bulk_scene : scene {
  using scene::scene;
  void run_many(std::initializer_list<int> keys, bool throws = false) {
    history::call mine(h);
    std::exception_ptr error;
    try {
      const std::vector<int> asked(keys);
      const auto got = flights.run_many(asked, [&](std::span<const int> missing) {
        std::vector<singleflight::outcome<int>> values;
        for (const int key : missing) {
          values.push_back(key == 1 ? h.load(throws)() : key);
        }
        return values;
      });
      std::size_t hot = 0;
      while (asked[hot] != 1) ++hot;
      for (std::size_t i = 0; i < asked.size(); ++i) {
        if (got[i].has_value() && asked[i] != 1)
          w.check(**got[i] == asked[i], "another key's value");
        if (asked[i] == 1) {
          w.check(got[i].has_value() == got[hot].has_value(), "12: one key, two outcomes");
        }
      }
      mine.given(got[hot]);
    } catch (...) {
      error = std::current_exception();
    }
    if (error != nullptr) mine.given(error);
    drain();
  }
};

void play(world& w, std::initializer_list<int> keys, bool throws, void (*other)(bulk_scene&)) {
  bulk_scene s(w);
  s.thread([&] { s.run_many(keys, throws); });
  s.thread([&] { other(s); });
  w.run();
  s.finish();
}

const add_world during_run("11: run_many during run", model::three, [](world& w) {
  play(w, {1, 2}, false, [](bulk_scene& s) { s.run(); });
});
const add_world throwing("11: a bulk load that throws, during run", model::three, [](world& w) {
  play(w, {2, 1}, true, [](bulk_scene& s) {
    s.run();
    s.run();
  });
});
const add_world twice("12: a key twice in a bulk call", model::three, [](world& w) {
  play(w, {1, 1}, false, [](bulk_scene& s) { s.run(); });
});
const add_world crossed("12: two bulk calls in opposite order", model::three, [](world& w) {
  play(w, {1, 2}, false, [](bulk_scene& s) { s.run_many({2, 1}); });
});
const add_world unread("12: start_many dropped unread, during run", model::three, [](world& w) {
  bulk_scene s(w);
  s.h.may_overlap();
  s.thread([&] {
    const std::vector<int> keys{1, 2};
    {
      const auto unread_handles = s.flights.start_many(keys, [&s](std::span<const int> missing) {
        std::vector<singleflight::outcome<int>> values;
        for (const int key : missing) values.push_back(key == 1 ? s.h.load()() : key);
        return values;
      });
    }
    s.drain();
  });
  s.thread([&] { s.run(); });
  w.run();
  s.finish();
});

/// Calls for the other key, 2, first.
void run_both(scene& s) {
  history::call mine(s.h);
  const std::vector<int> keys{2, 1};
  const auto got = s.flights.run_many(keys, [&](std::span<const int> missing) {
    std::vector<singleflight::outcome<int>> values;
    for (const int key : missing) values.push_back(key == 1 ? s.h.load()() : key);
    return values;
  });
  s.w.check(got[0].has_value(), "51: the other key has failed");
  mine.given(got[1]);
}

// Scenario 51.
// A load fails and is handed over, and fails again; the only caller left that could take over waits
// for another key, whose load waits for this one.
const add_world lender_elsewhere(
    "51: a lender that waits for another key", model::two, [](world& w) {
      scene s(w, {.on_error = singleflight::error_policy::hand_over(3)});
      model::gate hot_runs;
      model::gate hot_fails;
      model::gate other_runs;
      s.thread([&] {
        s.h.calls([&] {
          return int{*s.flights.run(1, [&] {
            hot_runs.open();
            hot_fails.wait();
            return s.h.load(true)();
          })};
        });
      });
      s.thread([&] {  // the load of key 2 waits for that of key 1, with a load that serves once
        hot_runs.wait();
        (void)s.flights.run(2, [&] {
          other_runs.open();
          auto hot = s.flights.start(
              1, [&s, only = std::make_unique<int>(1)] { return s.h.load(true)(); });
          hot_fails.open();
          hot.wait();
          return 2;
        });
      });
      s.thread([&] {
        other_runs.wait();
        run_both(s);
      });
      w.run();
      s.finish();
    });

// Scenario 51.
// A load has failed, and its caller has received the error; the caller elected next gives the lead
// back, and the only one left called after the failure and sleeps on another key. The election did
// not count that caller, and the failure is older than its call.
const add_world after_a_failure(
    "51: a bulk call that comes after a failure", model::two, [](world& w) {
      scene s(w, {.on_error = singleflight::error_policy::hand_over(1)});
      s.h.may_end(model::flight_errc::cancelled);
      s.h.may_overlap();  // the last caller leaves a load that runs
      std::stop_source leaver;
      model::gate hot_runs;
      model::gate hot_failed;
      model::gate left;
      s.thread([&] {
        (void)s.flights.run(2, [&] {
          s.h.calls([&] {
            return int{*s.flights.run(1, [&] {
              hot_runs.open();
              return s.h.load(true)();
            })};
          });
          hot_failed.open();
          singleflight::detail::platform::request_stop(leaver);
          left.wait();
          return 2;
        });
      });
      s.thread([&] {
        hot_failed.wait();
        run_both(s);
      });
      s.thread([&] {
        hot_runs.wait();
        history::call mine(s.h);
        mine.given(
            s.flights.run(singleflight::as_outcome, 1, s.h.load(), {.stop = leaver.get_token()}));
        left.open();
      });
      w.run();
      s.finish();
    });

const add_world with_fault("11: run_many during run, and a fault", model::two_and_a_fault,
                           [](world& w) {
                             play(w, {1, 2}, false, [](bulk_scene& s) { s.run(); });
                           });

}  // namespace
