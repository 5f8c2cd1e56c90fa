// SPDX-License-Identifier: Apache-2.0
#pragma once

// deposits: keys whose loads wait for one call of a bulk loader, which answers all of them. They
// are gathered by start_many and by the batcher.

#include <algorithm>
#include <cstddef>
#include <exception>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "singleflight/core/outcome.hpp"
#include "singleflight/core/support/require.hpp"
#include "singleflight/core/support/thread_state.hpp"
#include "singleflight/core/support/trampoline.hpp"
#include "singleflight/flight/detail/promise_door.hpp"
#include "singleflight/flight/flight_promise.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// Reports in one line why keys of this type cannot be passed to a bulk loader.
template <class Key>
consteval bool goes_in_bulk() {
  static_assert(
      !std::is_same_v<Key, bool>,
      "singleflight: keys come to a loader of many as a std::span, which a std::vector of "
      "bool does not give: use another type of key");
  return true;
}

/// Reserves capacity for one more element, so that the next push_back does not allocate.
template <class T>
void make_room(std::vector<T>& list) {
  if (list.size() == list.capacity()) list.reserve(std::max<std::size_t>(8, 2 * list.size()));
}

/// The flights that a bulk call leads, by the positions of their keys; a bulk loader may take them
/// as its second argument.
class bulk_flights {
 public:
  explicit bulk_flights(std::span<const flight_context* const> each) noexcept : each_(each) {}
  const flight_context& operator[](std::size_t i) const noexcept { return *each_[i]; }

 private:
  std::span<const flight_context* const> each_;
};
template <class Key, class LoadMany>
inline constexpr bool takes_flights =
    std::is_invocable_v<LoadMany&, std::span<const Key>, const bulk_flights&>;

/// Reports in one line why a callable is not a bulk loader.
template <class Key, class Value, class LoadMany>
consteval bool loads_in_bulk() {
  using outcomes = std::vector<outcome<Value>>;
  static_assert(
      std::is_invocable_r_v<outcomes, LoadMany&, std::span<const Key>> ||
          std::is_invocable_r_v<outcomes, LoadMany&, std::span<const Key>, const bulk_flights&>,
      "singleflight: a loader of many takes a std::span<const Key> and returns a "
      "std::vector<outcome<Value>>, one for each key by position");
  return true;
}

/// Calls a bulk loader for `keys`. `flights()` returns one pointer to a flight_context per key, in
/// the order of `keys`; it is called only if the loader takes them.
template <class Value, class Key, class LoadMany, class Flights>
std::vector<outcome<Value>> call_in_bulk(LoadMany& load_many, std::span<const Key> keys,
                                         const Flights& flights) {
  if constexpr (takes_flights<Key, LoadMany>) {
    const std::vector<const flight_context*> each = flights();
    return load_many(std::span<const Key>(keys), bulk_flights(each));
  } else if constexpr (std::is_invocable_r_v<std::vector<outcome<Value>>, LoadMany&,
                                             std::span<const Key>>) {
    return load_many(std::span<const Key>(keys));
  } else {
    return detail::never<std::vector<outcome<Value>>>();  // loads_in_bulk() has said why
  }
}

/// Keys and the promises of their flights, which one call of a bulk loader answers.
template <class Key, class Value>
struct deposits {
  /// Adds both or, if it throws, neither.
  void add(Key&& key, flight_promise<Value>&& promise) {
    keys.push_back(std::move(key));
    try {
      promises.push_back(std::move(promise));
    } catch (...) {
      keys.pop_back();
      throw;
    }
  }

  /// Calls `load_many` for all keys, then `loaded`, and answers the promises.
  template <class LoadMany, class Loaded>
  void load(LoadMany& load_many, Loaded loaded) {
    const call_scope scope;  // no waiter resumes on this thread before all keys are answered
    std::vector<outcome<Value>> outcomes;
    std::exception_ptr error;
    try {
      const leading led(*this);
      outcomes = call_in_bulk<Value>(load_many, std::span<const Key>(keys), [this] {
        std::vector<const flight_context*> flights;
        for (const auto& promise : promises) flights.push_back(&promise.context());
        return flights;
      });
    } catch (...) {
      if (platform::is_thread_exit()) throw;  // the promises are destroyed unanswered: broken
      error = std::current_exception();
    }
    loaded();
    const bool fits = error == nullptr && outcomes.size() == keys.size();
    for (std::size_t i = 0; i < promises.size(); ++i) {
      flight_promise<Value> promise = std::move(promises[i]);
      if (error != nullptr) {
        promise.set_error(error);
      } else if (fits) {
        promise.set_outcome(std::move(outcomes[i]));
      }  // else the promise is destroyed unanswered: broken
    }
  }

  static_assert(goes_in_bulk<Key>());
  std::vector<Key> keys;
  std::vector<flight_promise<Value>> promises;

 private:
  /// Marks this thread as leading all the flights of the promises.
  struct leading {
    explicit leading(const deposits& given)
        : self(this_thread()), outer(self.led), frames(given.promises.size()) {
      for (std::size_t i = 0; i < frames.size(); ++i) {
        frames[i] = promise_door::frame_of(given.promises[i], self.led);
        self.led = &frames[i];
      }
    }
    leading(const leading&) = delete;
    leading& operator=(const leading&) = delete;
    ~leading() { self.led = outer; }
    thread_state& self;
    const led_frame* outer;
    std::vector<led_frame> frames;
  };
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
