// SPDX-License-Identifier: Apache-2.0

// Every verb on few keys from many threads, and a history from which P1-P4 are checked.
//
// Each load records when it began and ended; each call records when it began, when it had its
// outcome, and which load that outcome came from; time is a counter that all share. Afterwards the
// history shows whether any promise was broken:
//   P1  loads of one key overlap only where the group allows it: after forget, an abandoned load, a
//       timeout or a window. In the configurations without these, never.
//   P3  once a caller has received a flight's outcome, no call that begins later receives it.
//   P4  each wait ends exactly once.
//   fresh calls receive loads that began after the call.
// The seed is printed; SINGLEFLIGHT_SEED repeats it, SINGLEFLIGHT_STRESS_MS sets the time box.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/eventually.hpp"
#include "support/gate.hpp"
#include "support/stress.hpp"
#include "support/task.hpp"
#include <singleflight/flight.hpp>

namespace {

using namespace std::chrono_literals;
using singleflight::abandon;
using singleflight::as_outcome;
using singleflight::flight_context;
using singleflight::flight_errc;
using singleflight::flight_promise;

constexpr int keys = 3;
constexpr int callers = 6;

/// The value of a load: which load it was.
struct stamp {
  explicit stamp(std::uint64_t of) : load(of) {}
  stamp(stamp&&) = default;
  stamp& operator=(stamp&&) = default;
  std::uint64_t load;
};
/// The exception of a load that fails.
struct failure : std::runtime_error {
  explicit failure(std::uint64_t of) : std::runtime_error("load failed"), load(of) {}
  std::uint64_t load;
};

using group = singleflight::group<int, stamp>;
using outcome = singleflight::outcome<singleflight::shared_result<stamp>>;

struct load_record {
  int key;
  std::uint64_t began;
  std::uint64_t ended;
};
struct call_record {
  int key = 0;
  bool fresh = false;
  bool led_itself = false;
  std::uint64_t began = 0;
  std::uint64_t load = 0;  // 0: an error of the library
  std::uint64_t had = 0;
};

class history {
 public:
  std::uint64_t tick() noexcept { return 1 + clock_.fetch_add(1, std::memory_order_acq_rel); }

  std::uint64_t load_begins(int key) {
    const std::lock_guard hold(lock_);
    loads_.push_back({key, tick(), 0});
    return loads_.size();
  }
  void load_ends(std::uint64_t load) {
    const std::lock_guard hold(lock_);
    loads_[load - 1].ended = tick();
  }
  void call_ends(const call_record& call) {
    const std::lock_guard hold(lock_);
    calls_.push_back(call);
  }

  void check(bool may_overlap) {
    std::map<std::uint64_t, std::uint64_t> first_given;
    for (const call_record& c : calls_) {
      if (c.load == 0) continue;
      ASSERT_LE(c.load, loads_.size());
      EXPECT_EQ(loads_[c.load - 1].key, c.key) << "the outcome of another key";
      EXPECT_LT(loads_[c.load - 1].began, c.had);
      const auto [at, fresh] = first_given.try_emplace(c.load, c.had);
      if (!fresh) at->second = std::min(at->second, c.had);
      if (c.fresh) {
        EXPECT_GT(loads_[c.load - 1].began, c.began) << "a fresh call got an older load";
      }
    }
    std::size_t late = 0;
    for (const call_record& c : calls_) {
      if (c.load != 0 && c.began > first_given[c.load]) ++late;
    }
    EXPECT_EQ(late, 0u) << "calls were given an outcome that others had before they began (P3)";
    if (may_overlap) return;
    std::array<std::uint64_t, keys> open_until{};
    for (const load_record& l : loads_) {  // in the order in which they began
      auto& until = open_until[static_cast<std::size_t>(l.key)];
      EXPECT_GT(l.began, until) << "two loads of one key at once (P1)";
      until = std::max(until, l.ended);
    }
  }
  std::size_t load_count() const { return loads_.size(); }
  std::size_t call_count() const { return calls_.size(); }

 private:
  std::atomic<std::uint64_t> clock_{0};
  std::mutex lock_;
  std::vector<load_record> loads_;
  std::vector<call_record> calls_;
};

/// Records one load, from its beginning to its end, also when it throws.
class open_load {
 public:
  open_load(history& in, int key) : book_(&in), number_(in.load_begins(key)) {}
  open_load(open_load&& other) noexcept
      : book_(std::exchange(other.book_, nullptr)), number_(other.number_) {}
  open_load& operator=(open_load&&) = delete;
  ~open_load() { end(); }
  void end() {
    if (book_ != nullptr) std::exchange(book_, nullptr)->load_ends(number_);
  }
  std::uint64_t number() const { return number_; }

 private:
  history* book_;
  std::uint64_t number_;
};

struct settings {
  const char* name;
  abandon policy = abandon::stop;
  std::uint32_t hand_overs = 0;
  std::chrono::nanoseconds join_window{0};
  std::chrono::nanoseconds load_timeout{0};
  bool forgets = false;
  bool leaves = true;  ///< calls with limits, dropped handles
  bool inline_group = false;
  std::size_t max_waiters = 0;

  /// Whether two loads of one key may run at once.
  bool overlaps() const {
    return forgets || join_window.count() > 0 || load_timeout.count() > 0 ||
           (policy == abandon::stop && leaves);
  }
};

std::ostream& operator<<(std::ostream& to, const settings& s) { return to << s.name; }

class storm {
 public:
  explicit storm(const settings& how, std::uint64_t seed)
      : how_(how),
        seed_(seed),
        pool_({.max_threads = 3}),
        group_({.executor = how.inline_group
                                ? singleflight::any_executor(singleflight::inline_executor)
                                : singleflight::any_executor(pool_),
                .on_abandon = how.policy,
                .on_error = singleflight::error_policy::hand_over(how.hand_overs),
                .join_window = how.join_window,
                .load_timeout = how.load_timeout,
                .max_waiters = how.max_waiters}) {}

  void blow(std::chrono::milliseconds box) {
    const auto until = std::chrono::steady_clock::now() + box;
    {
      std::vector<std::jthread> all;
      stepping_ = static_cast<int>(callers);
      for (std::uint64_t i = 0; i < callers; ++i) {
        all.emplace_back([this, i, until] {
          std::mt19937_64 random(seed_ + i);
          while (std::chrono::steady_clock::now() < until) step(random);
          --stepping_;
        });
      }
      all.emplace_back([this, until] { answer_promises(until); });
      all.emplace_back([this, until] { fire_stops(until); });
    }
    settle_promises();
    support::eventually([&] { return waiting_ == 0; }, "the end of every wait");
    settle_promises();
    support::eventually(
        [&] {
          settle_promises();
          return group_.in_flight().empty();
        },
        "an empty group");
    // Promises of abandoned loads are answered as well before the history is checked.
    std::jthread closing([this] { group_.close(); });
    support::eventually(
        [&] {
          settle_promises();
          return open_promises_ == 0;
        },
        "the last promises");
    closing.join();
    EXPECT_EQ(ended_twice_, 0) << "a wait ended more than once (P4)";
    EXPECT_EQ(waits_, ends_) << "a wait that never ended, or twice (P4)";
    book_.check(how_.overlaps());
    const auto stats = group_.stats();
    EXPECT_GE(stats.loads, book_.load_count());
    std::cout << "  " << how_.name << ": " << book_.call_count() << " calls, " << book_.load_count()
              << " loads, " << stats.joined << " joined, " << stats.handed_over << " handed over, "
              << stats.abandoned << " abandoned, " << stats.cancelled << " cancelled, "
              << stats.timed_out << " timed out\n";
  }

 private:
  struct waiting_call {
    storm* in;
    call_record call;
    std::shared_ptr<std::atomic<int>> over = std::make_shared<std::atomic<int>>(0);
    void operator()(const outcome& o) {
      if (over->exchange(1) != 0) ++in->ended_twice_;
      in->note(call, o);
      --in->waiting_;
    }
  };

  call_record begin(int key, bool fresh) {
    ++waits_;
    return {.key = key, .fresh = fresh, .began = book_.tick()};
  }
  waiting_call begin_waiting(int key, bool fresh) {
    ++waiting_;
    return {this, begin(key, fresh)};
  }
  void note(call_record call, const outcome& o) {
    ++ends_;
    if (o.has_value()) {
      call.load = (*o)->load;
    } else if (!o.errc()) {
      try {
        o.rethrow();
      } catch (const failure& error) {
        call.load = error.load;
      } catch (...) {
        ADD_FAILURE() << "an exception that no load threw";
      }
    }
    call.had = book_.tick();
    book_.call_ends(call);
  }

  // ---- loads: the caller that brings a load draws how it ends -----------------------------------

  stamp load_now(int key, std::uint64_t draw) {
    open_load open(book_, key);
    for (std::uint64_t i = 0; i < draw % 64; ++i) std::this_thread::yield();
    if (draw % 7 == 0) throw failure(open.number());
    return stamp(open.number());
  }
  auto plain(int key, std::uint64_t draw) {
    return [this, key, draw] { return load_now(key, draw); };
  }
  auto stoppable(int key, std::uint64_t draw) {
    return [this, key, draw](flight_context& context) {
      open_load open(book_, key);
      const std::stop_token stop = context.stop_token();
      for (std::uint64_t i = 0; i < draw % 256 && !stop.stop_requested(); ++i) {
        (void)context.callers();
        (void)context.deadline();
        (void)context.forgotten();
        std::this_thread::yield();
      }
      return stamp(open.number());
    };
  }
  struct pending {
    std::optional<flight_promise<stamp>> promise;
    open_load open;
    std::uint64_t draw;
  };
  auto promised(int key, std::uint64_t draw) {
    return [this, key, draw](flight_promise<stamp> promise) {
      pending one{std::nullopt, open_load(book_, key), draw};
      one.promise.emplace(std::move(promise));
      ++open_promises_;
      const std::lock_guard hold(promises_lock_);
      promises_.push_back(std::move(one));
    };
  }
  auto awaited(int key, std::uint64_t draw) {
    return [this, key, draw]() -> support::lazy<stamp> { co_return load_now(key, draw); };
  }
  auto bulk(std::uint64_t draw) {
    return [this, draw](std::span<const int> some) {
      std::vector<singleflight::outcome<stamp>> all;
      std::vector<open_load> open;
      for (const int key : some) open.emplace_back(book_, key);
      for (std::uint64_t i = 0; i < draw % 32; ++i) std::this_thread::yield();
      for (const open_load& one : open) {
        if (draw % 5 == 0) {
          all.emplace_back(std::make_exception_ptr(failure(one.number())));
        } else {
          all.emplace_back(stamp(one.number()));
        }
      }
      return all;
    };
  }

  void answer(pending one) {
    const std::uint64_t number = one.open.number();
    one.open.end();
    switch (one.draw % 5) {
      case 0: one.promise->set_error(std::make_exception_ptr(failure(number))); break;
      case 1:
        one.promise.reset();  // broken
        break;
      default: one.promise->set_value(stamp(number));
    }
    --open_promises_;
  }
  void settle_promises() {
    for (;;) {
      std::optional<pending> one;
      {
        const std::lock_guard hold(promises_lock_);
        if (promises_.empty()) return;
        one.emplace(std::move(promises_.back()));
        promises_.pop_back();
      }
      answer(std::move(*one));
    }
  }
  void answer_promises(std::chrono::steady_clock::time_point until) {
    // A caller may still wait in its last step, possibly for a load whose turn comes only now.
    while (stepping_ > 0 || waiting_ > 0) {
      settle_promises();
      std::this_thread::yield();
      if (std::chrono::steady_clock::now() > until + support::patience) return;
    }
  }

  // ---- stops that other threads request ---------------------------------------------------------

  std::stop_token next_stop() {
    const std::lock_guard hold(stops_lock_);
    return stop_.get_token();
  }
  void fire_stops(std::chrono::steady_clock::time_point until) {
    while (std::chrono::steady_clock::now() < until) {
      std::stop_source old;
      {
        const std::lock_guard hold(stops_lock_);
        std::swap(old, stop_);
      }
      for (int i = 0; i < 20; ++i) std::this_thread::yield();
      old.request_stop();
    }
  }

  // ---- one step of one caller -------------------------------------------------------------------

  template <class Load>
  support::detached await_start(int key, bool fresh, int spelling, Load load) {
    waiting_call tell = begin_waiting(key, fresh);
    auto f = fresh ? group_.start_fresh(key, load) : group_.start(key, load);
    const auto soon = std::chrono::steady_clock::now() + 200us;
    switch (spelling) {
      case 0: tell(co_await f.as_outcome()); break;
      case 1: tell(co_await f.on(singleflight::default_pool()).as_outcome()); break;
      case 2: tell(co_await f.until(soon, next_stop()).as_outcome()); break;
      case 3: tell(co_await f.until(soon).on(pool_).as_outcome()); break;
      default:
        try {
          const auto r = co_await f;
          tell.over->store(true);
          call_record call = tell.call;
          call.load = r->load;
          note_value(call);
        } catch (...) {
          const outcome failed(std::current_exception());
          if (!is_library_error()) {
            tell(failed);
          } else {
            tell(outcome(flight_errc::broken));
          }
        }
    }
  }
  void note_value(call_record call) {
    ++ends_;
    call.had = book_.tick();
    book_.call_ends(call);
    --waiting_;
  }
  static bool is_library_error() {
    try {
      throw;
    } catch (const singleflight::flight_error&) {
      return true;
    } catch (...) {
      return false;
    }
  }

  template <class Load>
  void use_start(int key, bool fresh, std::uint64_t draw, Load load) {
    const int spelling = static_cast<int>(draw % (how_.leaves ? 11 : 5));
    const auto start = [&] {
      return fresh ? group_.start_fresh(key, load) : group_.start(key, load);
    };
    switch (spelling) {
      case 0: {
        const call_record call = begin(key, fresh);
        auto f = start();
        note(call, f.get_outcome());
        break;
      }
      case 1: {
        waiting_call tell = begin_waiting(key, fresh);
        auto f = start();
        std::move(f).on_ready([tell](const outcome& o) mutable { tell(o); });
        break;
      }
      case 2: {
        waiting_call tell = begin_waiting(key, fresh);
        auto f = start();
        std::move(f).on_ready(pool_, [tell](const outcome& o) mutable { tell(o); });
        break;
      }
      case 3: await_start(key, fresh, static_cast<int>(draw / 16 % 2), load); break;
      case 4: await_start(key, fresh, 4, load); break;
      case 5: await_start(key, fresh, 2, load); break;
      case 6: await_start(key, fresh, 3, load); break;
      case 7: {
        auto f = start();
        (void)f.wait_for(std::chrono::microseconds(draw % 50));
        break;  // dropped
      }
      case 8: {
        auto f = start();
        std::move(f).detach();
        break;
      }
      case 9: {
        const call_record call = begin(key, fresh);
        auto f = start();
        note(call, f.until(std::chrono::steady_clock::now() + 100us, next_stop()).get_outcome());
        break;
      }
      default: {
        waiting_call tell = begin_waiting(key, fresh);
        auto f = start();
        f.until(std::chrono::steady_clock::now() + 100us, next_stop())
            .on_ready([tell](const outcome& o) mutable { tell(o); });
      }
    }
  }

  singleflight::limits bounds(std::uint64_t draw) {
    singleflight::limits some;
    if (!how_.leaves) return some;
    if (draw % 3 == 0) some.deadline = std::chrono::steady_clock::now() + 100us;
    if (draw % 4 == 0) some.stop = next_stop();
    return some;
  }

  void step(std::mt19937_64& random) {
    const int key = static_cast<int>(random() % keys);
    const std::uint64_t draw = random();
    const std::uint64_t how = random();
    if (waiting_ > 2000) std::this_thread::yield();
    switch (random() % (how_.forgets ? 18 : 15)) {
      case 0:
      case 1: {
        const call_record call = begin(key, false);
        try {
          const auto r = group_.run(key, plain(key, draw));
          call_record done = call;
          done.load = r->load;
          ++ends_;
          done.had = book_.tick();
          book_.call_ends(done);
        } catch (const failure&) {
          note(call, outcome(std::current_exception()));
        } catch (const singleflight::flight_error& error) {
          note(call, outcome(error.errc()));
        }
        break;
      }
      case 2:
      case 3: {
        const call_record call = begin(key, false);
        note(call, group_.run(as_outcome, key, stoppable(key, draw), bounds(how)));
        break;
      }
      case 4: {
        const call_record call = begin(key, true);
        note(call, group_.run_fresh(as_outcome, key, plain(key, draw), bounds(how)));
        break;
      }
      case 5:
      case 6: use_start(key, false, how, plain(key, draw)); break;
      case 7: use_start(key, false, how, promised(key, draw)); break;
      case 8: use_start(key, false, how, awaited(key, draw)); break;
      case 9: use_start(key, false, how, stoppable(key, draw)); break;
      case 10: use_start(key, true, how, plain(key, draw)); break;
      case 11: use_start(key, true, how, promised(key, draw)); break;
      case 12: {
        const std::vector<int> some{key, (key + 1) % keys, key};
        std::vector<call_record> calls;
        for (const int k : some) calls.push_back(begin(k, false));
        const auto all = group_.run_many(some, bulk(draw), bounds(how));
        EXPECT_EQ(all.size(), some.size());
        for (std::size_t i = 0; i < all.size(); ++i) note(calls[i], all[i]);
        break;
      }
      case 13: {
        const std::vector<int> some{key, (key + 1) % keys, key};
        std::vector<call_record> calls;
        for (const int k : some) calls.push_back(begin(k, false));
        auto all = group_.start_many(some, bulk(draw));
        EXPECT_EQ(all.size(), some.size());
        for (std::size_t i = 0; i < all.size(); ++i) note(calls[i], all[i].get_outcome());
        break;
      }
      case 14:
        (void)group_.in_flight();
        (void)group_.stats();
        break;
      case 15:
      case 16: (void)group_.forget(key); break;
      default: (void)group_.forget_all();
    }
  }

  const settings how_;
  const std::uint64_t seed_;
  history book_;
  std::atomic<int> stepping_{0};  // callers that are not done yet
  std::atomic<std::int64_t> waiting_{0};
  std::atomic<std::int64_t> waits_{0};
  std::atomic<std::int64_t> ends_{0};
  std::atomic<int> ended_twice_{0};
  std::atomic<int> open_promises_{0};
  std::mutex promises_lock_;
  std::vector<pending> promises_;
  std::mutex stops_lock_;
  std::stop_source stop_;
  singleflight::thread_pool pool_;
  group group_;
};

class group_stress : public testing::TestWithParam<settings> {};

// Goal    P1, P2, P3 and P4 hold for every mix of verbs, forms and options.
// Method  See the head of this file.
TEST_P(group_stress, keeps_its_promises) {
  storm(GetParam(), support::new_seed()).blow(support::time_box());
}

INSTANTIATE_TEST_SUITE_P(
    all, group_stress,
    testing::Values(settings{.name = "stay", .leaves = false},
                    settings{.name = "stay_hand_over", .hand_overs = 2, .leaves = false},
                    settings{.name = "stop", .policy = abandon::stop},
                    settings{.name = "finish", .policy = abandon::finish},
                    settings{.name = "drain", .policy = abandon::drain},
                    settings{.name = "stop_hand_over", .policy = abandon::stop, .hand_overs = 3},
                    settings{
                        .name = "finish_hand_over", .policy = abandon::finish, .hand_overs = 3},
                    settings{.name = "drain_hand_over", .policy = abandon::drain, .hand_overs = 3},
                    settings{.name = "forget", .hand_overs = 1, .forgets = true},
                    settings{.name = "window", .hand_overs = 1, .join_window = 100us},
                    settings{.name = "timeout", .hand_overs = 1, .load_timeout = 200us},
                    settings{.name = "inline_executor",
                             .policy = abandon::drain,
                             .hand_overs = 1,
                             .inline_group = true},
                    settings{.name = "everything",
                             .policy = abandon::drain,
                             .hand_overs = 2,
                             .join_window = 300us,
                             .load_timeout = 500us,
                             .forgets = true,
                             .max_waiters = 8}),
    [](const testing::TestParamInfo<settings>& each) { return std::string(each.param.name); });

}  // namespace
