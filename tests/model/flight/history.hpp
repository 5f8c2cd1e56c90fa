// SPDX-License-Identifier: Apache-2.0
#pragma once

// Records what happened in a world, and checks the promises. Times are a counter that every event
// advances; an event is a step, so two orders of events are two states.

#include <algorithm>
#include <new>
#include <source_location>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "support/model/scheduler.hpp"
#include <singleflight/flight.hpp>

namespace model {

using ints = singleflight::group<int, int>;
using singleflight::as_outcome;
using singleflight::flight_errc;

class history {
 public:
  explicit history(world& w) : world_(w) {}

  /// A point at which another thread may run.
  static void step(const std::source_location& line = std::source_location::current()) {
    arrive(op::load, nullptr, line);
  }

  // ---- what a world allows in addition to plain values ----------------------------------------

  /// Loads of the key may overlap: one of them is forgotten, or was given up.
  void may_overlap() { may_overlap_ = true; }
  /// Calls may be destroyed while they wait.
  void may_leave() { may_leave_ = true; }
  /// Calls may end with `code`; without this it is a failure.
  void may_end(flight_errc code) { allowed_.push_back(code); }

  // ---- loads ----------------------------------------------------------------------------------

  /// A load of the one key: it takes a number, and other threads may run while it does (P1: never
  /// another load of the key, unless the world allows overlap).
  auto load(bool fails = false) {
    return [this, fails] {
      const int number = begin_load();
      step();
      end_load();
      if (fails) throw std::domain_error("load " + std::to_string(number));
      return number;
    };
  }
  int begin_load() {
    const spared books;
    if (running_ != 0 && !may_overlap_ && faults() == 0) {  // a fault may end a wait early
      world_.fail("P1: two loads of one key at a time");
    }
    ++running_;
    began_.push_back(tick());
    return static_cast<int>(began_.size());
  }
  void end_load() {
    tick();
    --running_;
  }

  // ---- calls ----------------------------------------------------------------------------------

  /// One call: from its making until it receives an outcome. One that is destroyed before that has
  /// left.
  class call {
   public:
    explicit call(history& in, bool fresh = false) : in_(in), fresh_(fresh), began_(in.tick()) {
      ++in_.open_;
    }
    call(const call&) = delete;
    call& operator=(const call&) = delete;
    ~call() {
      if (answered_) return;
      --in_.open_;
      ++in_.left_;
    }

    /// Receives the value of load `number`.
    void given(int number) {
      const spared books;
      if (answered_) in_.world_.fail("P4: a call was given two outcomes");
      answered_ = true;
      --in_.open_;
      in_.given_.push_back({number, began_, in_.tick(), fresh_});
    }
    void given(flight_errc code) {
      in_.ended(code);
      given(0);
    }
    /// Receives an exception: that of a load, or of the machine where there was a fault.
    void given(const std::exception_ptr& error) {
      try {
        std::rethrow_exception(error);
      } catch (const std::domain_error& e) {
        given(std::stoi(std::string(e.what()).substr(5)));  // "load N"
      } catch (const singleflight::flight_error& e) {
        given(static_cast<flight_errc>(e.code().value()));
      } catch (const std::bad_alloc&) {
        excuse();
      } catch (const std::system_error&) {
        excuse();
      }
    }
    template <class R>
    void given(const singleflight::outcome<R>& got) {
      if (got) {
        given(int{**got});
      } else if (const auto code = got.errc()) {
        given(*code);
      } else {
        given(got.exception());
      }
    }

   private:
    void excuse() {
      if (faults() == 0) in_.world_.fail("P9: a call has failed for memory, without a fault");
      given(0);
    }
    history& in_;
    const bool fresh_;
    const int began_;
    bool answered_ = false;
  };

  /// Makes a call; `what` returns the number of the load whose outcome it received.
  template <class What>
  void calls(What&& what, bool fresh = false) {
    call mine(*this, fresh);
    int number = 0;
    std::exception_ptr error;
    try {
      number = what();
    } catch (...) {
      error = std::current_exception();
    }
    if (error != nullptr) {
      mine.given(error);
    } else {
      mine.given(number);
    }
  }

  // ---- the end --------------------------------------------------------------------------------

  /// Checks P3, P4 and that fresh calls got fresh loads; at the end of a world.
  void check() const {
    world_.check(open_ == 0, "P4: a call has not returned");
    world_.check(left_ == 0 || may_leave_, "P4: a call was dropped without an outcome");
    world_.check(running_ == 0, "a load has not ended");
    for (const outcome& a : given_) {
      if (a.number == 0) continue;
      for (const outcome& b : given_) {
        if (a.number == b.number && a.ended < b.began) {
          world_.fail("P3: a call was given an outcome that an earlier call had received");
        }
      }
      if (a.fresh && began_[static_cast<std::size_t>(a.number) - 1] < a.began) {
        world_.fail("run_fresh: the load began before the call");
      }
    }
  }
  int loads() const { return static_cast<int>(began_.size()); }
  int running() const { return running_; }
  /// The number of calls that have ended, and of those that ended with `code`.
  int count() const { return static_cast<int>(given_.size()); }
  int count(flight_errc code) const {
    return static_cast<int>(std::count(errors_.begin(), errors_.end(), code));
  }

 private:
  friend class call;
  int tick(const std::source_location& line = std::source_location::current()) {
    arrive(op::exchange, this, line);
    return ++time_;
  }
  void ended(flight_errc code) {
    const spared books;
    errors_.push_back(code);
    // An executor without memory for a task drops it.
    const bool allowed = std::find(allowed_.begin(), allowed_.end(), code) != allowed_.end() ||
                         (code == flight_errc::broken && faults() > 0);
    if (!allowed) {
      world_.fail("P4: a call has ended with an error that this world does not allow: " +
                  std::string(singleflight::make_error_code(code).message()));
    }
  }

  struct outcome {
    int number;
    int began;
    int ended;
    bool fresh;
  };
  world& world_;
  int time_ = 0;
  int running_ = 0;
  int open_ = 0;
  int left_ = 0;
  bool may_overlap_ = false;
  bool may_leave_ = false;
  std::vector<flight_errc> allowed_;
  std::vector<int> began_;
  std::vector<outcome> given_;
  std::vector<flight_errc> errors_;
};

}  // namespace model
