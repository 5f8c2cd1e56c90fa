// SPDX-License-Identifier: Apache-2.0
#pragma once

// What people write when they do not know this library: a mutex, a map, a shared_future. It is only
// a baseline: no cancellation, no deadline, and a key in flight is copied.

#include <exception>
#include <future>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>

namespace bench {

template <class Value>
class future_group {
 public:
  template <class Load>
  Value run(const std::string& key, Load&& load) {
    std::promise<Value> promise;
    {
      std::unique_lock hold(lock_);
      if (const auto found = flights_.find(key); found != flights_.end()) {
        const std::shared_future<Value> shared = found->second;
        hold.unlock();
        return shared.get();
      }
      flights_.emplace(key, promise.get_future().share());
    }
    try {
      Value value = std::forward<Load>(load)();
      forget(key);
      promise.set_value(value);
      return value;
    } catch (...) {
      forget(key);
      promise.set_exception(std::current_exception());
      throw;
    }
  }

 private:
  void forget(const std::string& key) {
    const std::lock_guard hold(lock_);
    flights_.erase(key);
  }

  std::mutex lock_;
  std::unordered_map<std::string, std::shared_future<Value>> flights_;
};

}  // namespace bench
