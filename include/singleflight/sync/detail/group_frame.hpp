// SPDX-License-Identifier: Apache-2.0
#pragma once

// group_frame: marks a thread as inside of a group of tasks, on the stack of what runs there. It is
// listed with the loads that the thread leads: a wait for the group is a wait for this thread.

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

  /// `use` is the id of what does not end before this does; 0 if nothing waits for it.
  group_frame(const void* task_group, kind role, std::uint64_t use) noexcept
      : led_frame{platform::holds(rule::tasks_are_led) ? use : 0,
                  this_thread().led,
                  nullptr,
                  task_group,
                  false,
                  role == kind::works},
        thread_(this_thread()) {
    thread_.led = this;
  }
  group_frame(const group_frame&) = delete;
  group_frame& operator=(const group_frame&) = delete;
  ~group_frame() { thread_.led = outer; }

  /// Returns whether this thread is inside of the group, however deep.
  static bool is_inside(const void* task_group) noexcept {
    return find(task_group, [](const led_frame&) { return true; });
  }
  /// Returns whether this thread will come back to what it has queued in the group.
  static bool works_for(const void* task_group) noexcept {
    return find(task_group, [](const led_frame& frame) { return frame.works; });
  }

 private:
  template <class Fits>
  static bool find(const void* task_group, Fits fits) noexcept {
    for (const led_frame* frame = this_thread().led; frame != nullptr; frame = frame->outer) {
      if (frame->group == task_group && fits(*frame)) return true;
    }
    return false;
  }

  thread_state& thread_;
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
