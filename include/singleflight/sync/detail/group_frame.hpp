// SPDX-License-Identifier: Apache-2.0
#pragma once

// group_frame: marks a thread as inside of a group of tasks, on the stack of what runs there. It
// stands among the loads that the thread leads: whoever waits for the group waits for this thread.

#include <cstdint>

#include "singleflight/core/support/thread_state.hpp"
#include "singleflight/sync/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

class group_frame : led_frame {
 public:
  enum class kind : std::uint8_t {
    stops,  ///< runs stop callbacks of the group, and destructors of skipped tasks
    works,  ///< takes one task of the group after the other
  };

  /// `use`: the id of what does not end before this does; 0 when nothing waits for it.
  group_frame(const void* of, kind what, std::uint64_t use) noexcept
      : led_frame{platform::holds(rule::tasks_are_led) ? use : 0,
                  this_thread().led,
                  nullptr,
                  of,
                  false,
                  what == kind::works},
        on_(this_thread()) {
    on_.led = this;
  }
  group_frame(const group_frame&) = delete;
  group_frame& operator=(const group_frame&) = delete;
  ~group_frame() { on_.led = outer; }

  /// Whether this thread is inside of a group, however deep.
  static bool is_inside(const void* of) noexcept {
    return find(of, [](const led_frame&) { return true; });
  }
  /// Whether it will come back to what it has queued.
  static bool works_for(const void* of) noexcept {
    return find(of, [](const led_frame& f) { return f.works; });
  }

 private:
  template <class Fits>
  static bool find(const void* of, Fits fits) noexcept {
    for (const led_frame* f = this_thread().led; f != nullptr; f = f->outer) {
      if (f->group == of && fits(*f)) return true;
    }
    return false;
  }

  thread_state& on_;
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
