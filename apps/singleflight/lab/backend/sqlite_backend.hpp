// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <vector>

#include "lab/backend/backend.hpp"
#include "lab/backend/sqlite_connection.hpp"

namespace singleflight::lab {

/// sqlite_backend: answers a key with a query to an SQLite database, through a pool of read-only
/// connections. Loads wait for a free connection, first come, first served.
class sqlite_backend : public backend {
 public:
  struct settings {
    std::string path;
    std::string query;
    std::size_t connections = 4;
    std::string name = {};  // for people; empty: derived from the path
    int extra_flags = 0;    // of sqlite3_open_v2
    void (*on_open)(sqlite3*) = nullptr;
  };

  /// Opens all connections and prepares the query on each. Throws usage_error.
  explicit sqlite_backend(settings chosen);

  row load(const std::string& key, const patience& until) override;
  void interrupt() noexcept override;
  std::string name() const override { return settings_.name; }
  std::string query() const override { return settings_.query; }
  std::size_t connections() const override { return connections_.size(); }

 private:
  class lease;
  struct waiter {
    std::condition_variable ready;
    sqlite_connection* given = nullptr;
  };

  sqlite_connection& take(const patience& until);
  void give_back(sqlite_connection& connection);

  settings settings_;
  std::atomic<bool> interrupted_ = false;  // written under mutex_; running queries read it
  std::deque<sqlite_connection> connections_;
  std::mutex mutex_;  // guards what follows
  std::vector<sqlite_connection*> idle_;
  std::deque<waiter*> waiting_;
};

}  // namespace singleflight::lab
