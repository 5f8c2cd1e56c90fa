// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sqlite3.h>

#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>

#include "lab/backend/backend.hpp"

namespace singleflight::lab {

/// sqlite_failure: what SQLite said, with its result code.
class sqlite_failure : public std::runtime_error {
 public:
  sqlite_failure(int code, const std::string& what) : std::runtime_error(what), code_(code) {}
  int code() const noexcept { return code_; }

 private:
  int code_;
};

/// sqlite_connection: one connection with the one query that it runs, prepared.
///
/// Threads     one at a time.
class sqlite_connection {
 public:
  struct settings {
    std::string path;
    int flags = 0;  // of sqlite3_open_v2
  };

  /// Throws sqlite_failure.
  explicit sqlite_connection(const settings& open);

  sqlite3* handle() const { return database_.get(); }

  /// Runs statements without results. Throws sqlite_failure.
  void execute(const char* sql);

  /// Throws usage_error, naming --query, unless it is one statement that reads and has the one
  /// parameter :key.
  void prepare(const std::string& query);

  /// Throws backend_error.
  row ask(const std::string& key);

  /// From now on a running query fails soon after `flag` becomes true, and a new one at once.
  void obey(const std::atomic<bool>& flag);

 private:
  struct close_database {
    void operator()(sqlite3* database) const { sqlite3_close_v2(database); }
  };
  struct finalize_statement {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };

  std::unique_ptr<sqlite3, close_database> database_;
  std::unique_ptr<sqlite3_stmt, finalize_statement> statement_;
  int key_parameter_ = 0;
};

}  // namespace singleflight::lab
