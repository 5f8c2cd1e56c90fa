// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sqlite3.h>

#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>

#include "lab/backend/backend.hpp"

namespace singleflight::lab {

/// sqlite_failure: an error message of SQLite, with its result code.
class sqlite_failure : public std::runtime_error {
 public:
  sqlite_failure(int code, const std::string& what) : std::runtime_error(what), code_(code) {}
  int code() const noexcept { return code_; }

 private:
  int code_;
};

/// sqlite_connection: one connection and the prepared query that it runs.
///
/// Threads     one thread at a time.
class sqlite_connection {
 public:
  struct settings {
    std::string path;
    int flags = 0;  // of sqlite3_open_v2
  };

  /// Throws sqlite_failure.
  explicit sqlite_connection(const settings& open);

  sqlite3* handle() const { return database_.get(); }

  /// Runs statements and ignores their rows. Throws sqlite_failure.
  void execute(const char* sql);

  /// Throws usage_error, which names --query, unless the query is one read-only statement with :key
  /// as its only parameter.
  void prepare(const std::string& query);

  /// Throws backend_error.
  row ask(const std::string& key);

  /// Makes a running query fail soon after `flag` becomes true, and later queries immediately.
  void stop_when(const std::atomic<bool>& flag);

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
