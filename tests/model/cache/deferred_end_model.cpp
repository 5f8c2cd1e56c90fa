// SPDX-License-Identifier: Apache-2.0

// Where values that have left a cache are destroyed: never within a load, and all of them in the
// end.

#include <memory>
#include <optional>
#include <utility>

#include "model/worlds.hpp"
#include "support/model/executor.hpp"
#include <singleflight/cache/loading_cache.hpp>

namespace {

using model::add_world;
using model::two;
using model::world;
namespace detail = singleflight::detail;
namespace platform = singleflight::detail::platform;

/// A value whose destructor would wait for loads.
class waits_at_end {
 public:
  waits_at_end(world& in, int& alive) : w_(&in), alive_(&alive) { ++*alive_; }
  waits_at_end(waits_at_end&& other) noexcept
      : w_(std::exchange(other.w_, nullptr)), alive_(other.alive_) {}
  ~waits_at_end() {
    if (w_ == nullptr) return;
    w_->check(detail::at_safe_point(detail::this_thread()),
              "53: a value ended where a load may wait for this thread");
    --*alive_;
  }

 private:
  world* w_;
  int* alive_;
};

struct end_scene {
  using cache = singleflight::loading_cache<int, waits_at_end>;

  explicit end_scene(world& in) : w(in) {
    cache::options how{.capacity = 1, .random = [] { return std::uint64_t{1}; }};
    how.group.executor = queue;
    all = std::make_unique<cache>([this](int) { return waits_at_end(w, alive); }, how);
  }
  /// Loads `key` on this thread, as a task of the queue.
  void start(int key) {
    all->refresh(key);
    queue.run_all();
  }
  void finish() {
    w.run();
    all.reset();
    detail::hazard_domain::instance().reclaim(nullptr);
    w.run();  // the pool's task
    w.check(alive == 0, "a value has not ended");
  }

  world& w;
  int alive = 0;
  model::queue_executor queue;
  std::unique_ptr<cache> all;
};

const add_world within_get("53: a value that waits for loads is evicted within one", two,
                           [](world& w) {
                             end_scene s(w);
                             w.thread([&] {
                               (void)s.all->get(1);
                               (void)s.all->get(2);
                             });
                             w.thread([&] { (void)s.all->invalidate(1); });
                             s.finish();
                           });

const add_world within_task("53: a value that waits for loads is evicted by an executor's load",
                            two, [](world& w) {
                              end_scene s(w);
                              (void)s.all->get(1);
                              w.thread([&] { s.start(2); });
                              w.thread([&] { s.start(3); });
                              s.finish();
                            });

const add_world handle_dropped("53: the last handle of a value that waits is dropped within a load",
                               two, [](world& w) {
                                 end_scene s(w);
                                 singleflight::group<int, int> others;
                                 w.thread([&] {
                                   auto first = std::optional(s.all->get(1));
                                   auto second = std::optional(*first);  // counted
                                   (void)s.all->invalidate(1);
                                   (void)others.run(1, [&] {
                                     first.reset();
                                     second.reset();
                                     return 1;
                                   });
                                 });
                                 w.thread([&] { (void)s.all->get(2); });
                                 s.finish();
                               });

}  // namespace
