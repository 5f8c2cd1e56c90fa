// SPDX-License-Identifier: Apache-2.0
#pragma once

// Shared by the worlds of a loading_cache: a cache, a queue for its loads, and a history: when each
// load, each get and each invalidation began and ended.

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <new>
#include <source_location>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "model/cache/item.hpp"
#include "model/worlds.hpp"
#include "support/model/executor.hpp"
#include <singleflight/cache/loading_cache.hpp>

namespace model {

struct cache_scene {
  using cache = singleflight::loading_cache<int, item>;
  using options = cache::options;

  explicit cache_scene(world& in, options how = {})
      : w(in), of(with(std::move(how), queue)), all(made()) {}
  static options with(options how, const queue_executor& executor) {
    how.group.executor = executor;
    how.random = [] { return std::uint64_t{1}; };
    return how;
  }

  /// A thread of the world. Where memory runs short outside of any call, the thread ends.
  template <class What>
  void thread(What what) {
    w.thread([this, what] {
      // A thread whose last wait before a join was in vain joins at once.
      singleflight::detail::this_thread().vain_waits = 1;
      try {
        what();
      } catch (const std::bad_alloc&) {
        w.check(faults() > 0, "bad_alloc without a fault");
      }
      queue.run_all();  // runs the tasks that it caused: other threads may be blocked
    });
  }

  // ---- loads ------------------------------------------------------------------------------------

  /// Takes a number; other threads may run while it does.
  int load() {
    const int number = begin();
    arrive(op::load, nullptr, std::source_location::current());
    return number;
  }
  int begin() {
    const spared books;
    began_.push_back(tick());
    return static_cast<int>(began_.size());
  }
  int loads() const { return static_cast<int>(began_.size()); }

  // ---- calls ------------------------------------------------------------------------------------

  /// A call that returns what get returns. An exception carries the number of its load as well.
  template <class What>
  int calls(What&& what) {
    const int began = tick();
    const int number = given(what);
    const spared books;
    given_.push_back({number, began});
    return number;
  }
  int get(int key = 1) {
    return calls([&] { return all->get(key); });
  }
  /// The same; runs the queued tasks before it waits.
  int start_get(int key = 1) {
    return calls([&] {
      auto handle = all->start_get(key);
      queue.run_all();
      return std::move(handle).get();
    });
  }
  void get_all(std::initializer_list<int> keys) { get_all(std::vector<int>(keys)); }
  template <class Keys>
  void get_all(const Keys& keys) {
    const int began = tick();
    const auto got = all->get_all(keys);
    for (const auto& one : got) {
      const int number = one.value().value().look();
      const spared books;
      given_.push_back({number, began});
    }
  }

  /// After it returns, a new call must not get a value whose load began before it.
  template <class What>
  void invalidates(What&& what) {
    const int called = tick();
    what();
    const int returned = tick();
    const spared books;
    over_.push_back({called, returned});
  }
  void invalidate(int key = 1) {
    invalidates([&] { (void)all->invalidate(key); });
  }
  void put(int key = 1) {
    invalidates([&] { store(key); });
  }
  /// The same, but not recorded as an invalidation, since it affects this key only.
  void store(int key) {
    const int number = begin();
    all->put(key, item(number));
    began_[static_cast<std::size_t>(number) - 1] = tick();  // a concurrent invalidation came before
  }

  /// Checks that every call got a value that it may get, and destroys the cache. A world must not
  /// use keys that one of its invalidations does not cover.
  void finish() {
    queue.run_all();
    w.run();
    for (const given_call& a : given_) {
      for (const invalidation& i : over_) {
        w.check(i.returned > a.began || began_[static_cast<std::size_t>(a.number) - 1] > i.called,
                "31: a value whose load began before an invalidation was given after it");
      }
    }
    all.reset();
    singleflight::detail::hazard_domain::instance().reclaim(nullptr);
  }

  world& w;
  queue_executor queue;
  const options of;
  /// What the loader does; by default it calls load().
  std::function<int(int key)> loader = [this](int) { return load(); };
  std::unique_ptr<cache> all;

 private:
  struct given_call {
    int number, began;
  };
  struct invalidation {
    int called, returned;
  };

  std::unique_ptr<cache> made() {
    return std::make_unique<cache>([this](int key) { return item(loader(key)); }, of);
  }
  template <class What>
  static int given(What&& what) {
    try {
      return what().value().look();
    } catch (const std::domain_error& failed) {
      return std::stoi(failed.what());
    }
  }
  int tick(const std::source_location& line = std::source_location::current()) {
    arrive(op::exchange, this, line);
    return ++time_;
  }

  int time_ = 0;
  std::vector<int> began_;
  std::vector<given_call> given_;
  std::vector<invalidation> over_;
};

}  // namespace model
