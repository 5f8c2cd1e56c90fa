// SPDX-License-Identifier: Apache-2.0
#pragma once

// owned_task_group: a task_group and its owner; the stop of its parent stops it.

#include <optional>
#include <utility>

#include "singleflight/sync/detail/task_group.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

class owned_task_group {
 public:
  // on_parent_ is made in place: at -O3, GCC takes what an emplace() would destroy first for read.
  explicit owned_task_group(const task_group::settings& options)
      : group_(new task_group(options)),
        on_parent_(options.parent.stop_possible()
                       ? parent_callback(std::in_place, options.parent, stopper{group_})
                       : parent_callback()) {}
  owned_task_group(const owned_task_group&) = delete;
  owned_task_group& operator=(const owned_task_group&) = delete;
  /// 1. the parent's stop no longer reaches the group; 2. nothing more begins, and what runs is
  /// asked to stop; 3. it is waited for; 4. the group is destroyed with its last ticket.
  ~owned_task_group() {
    on_parent_.reset();
    group_->request_stop();
    (void)group_->wait(wait_graph::strength::firm);
    group_->disown();
  }
  task_group& operator*() const noexcept { return *group_; }
  task_group* operator->() const noexcept { return group_; }

 private:
  struct stopper {
    task_group* group;
    void operator()() const noexcept { group->request_stop(); }
  };
  using parent_callback = std::optional<platform::stop_callback<stopper>>;
  task_group* const group_;
  parent_callback on_parent_;
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
