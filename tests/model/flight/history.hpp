// SPDX-License-Identifier: Apache-2.0
#pragma once

// What happened in a world, and whether the promises were kept. Times are a counter that every
// event moves on.

#include <source_location>
#include <stdexcept>
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

  /// A place where another thread may come in.
  static void step(const std::source_location& line = std::source_location::current()) {
    arrive(op::load, nullptr, line);
  }

  /// A load of the one key: it takes a number, and other threads may come in while it runs (P1:
  /// never another load, unless the world says that they may overlap).
  auto load(bool fails = false) {
    return [this, fails] {
      if (running_ != 0 && !may_overlap_) world_.fail("P1: two loads of one key at a time");
      ++running_;
      const int number = ++loads_;
      began_.push_back(++time_);
      step();
      --running_;
      if (fails) throw std::domain_error("load " + std::to_string(number));
      return number;
    };
  }
  void may_overlap() { may_overlap_ = true; }

  /// A call that gives the number of the load whose outcome it has been given; 0 for none.
  template <class Call>
  int call(Call&& what, bool fresh = false) {
    const int began = ++time_;
    int number = 0;
    try {
      number = what();
    } catch (const std::domain_error& e) {
      number = number_in(e);
    } catch (const singleflight::flight_error& e) {
      errors_.push_back(static_cast<flight_errc>(e.code().value()));
    }
    given_.push_back({.number = number, .began = began, .ended = ++time_, .fresh = fresh});
    return number;
  }

  /// The same in two halves, for a coroutine.
  int begin() { return ++time_; }
  void end(int began, const singleflight::outcome<singleflight::shared_result<int>>& got) {
    int number = 0;
    if (got) {
      number = **got;
    } else if (const auto code = got.errc()) {
      errors_.push_back(*code);
    } else {
      number = number_in(got.exception());
    }
    given_.push_back({.number = number, .began = began, .ended = ++time_, .fresh = false});
  }

  /// P3, P4, and that fresh calls are; at the end of a world.
  void check(int calls) {
    world_.check(static_cast<int>(given_.size()) == calls, "P4: a call has not returned");
    for (const outcome& a : given_) {
      if (a.number == 0) continue;
      for (const outcome& b : given_) {
        if (a.number == b.number && a.ended < b.began) {
          world_.fail("P3: a call was given an outcome that had been given to somebody before");
        }
      }
      if (a.fresh && began_[static_cast<std::size_t>(a.number) - 1] < a.began) {
        world_.fail("run_fresh: the load began before the call");
      }
    }
  }
  int loads() const { return loads_; }
  int running() const { return running_; }
  const std::vector<flight_errc>& errors() const { return errors_; }

 private:
  static int number_in(const std::domain_error& e) {
    return std::stoi(std::string(e.what()).substr(5));  // "load N"
  }
  static int number_in(const std::exception_ptr& error) {
    try {
      std::rethrow_exception(error);
    } catch (const std::domain_error& e) {
      return number_in(e);
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
  int loads_ = 0;
  int running_ = 0;
  bool may_overlap_ = false;
  std::vector<int> began_;
  std::vector<outcome> given_;
  std::vector<flight_errc> errors_;
};

}  // namespace model
