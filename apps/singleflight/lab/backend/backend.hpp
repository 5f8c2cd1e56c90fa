// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <stdexcept>
#include <string>
#include <utility>

namespace singleflight::lab {

using steady_time = std::chrono::steady_clock::time_point;

/// The answer of a backend for one key.
struct row {
  std::string text;      // one row per line, columns separated by tabs
  std::size_t rows = 0;  // an answer may have no rows
};

/// backend_error: a load failed. `kind` is a short name that similar failures share
/// ("sqlite_busy"); failures are counted by kind.
class backend_error : public std::runtime_error {
 public:
  backend_error(std::string kind, const std::string& what)
      : std::runtime_error(what), kind_(std::move(kind)) {}
  const std::string& kind() const noexcept { return kind_; }

 private:
  std::string kind_;
};

/// not_asked: the load failed before it reached the backend.
class not_asked : public backend_error {
 public:
  using backend_error::backend_error;
};

/// no_connection: all callers of the load gave up before its turn came or a connection was free.
class no_connection : public not_asked {
 public:
  explicit no_connection(const char* what = "no connection became free before the deadline")
      : not_asked("timed_out", what) {}
};

/// load_interrupted: interrupt() ended the load.
class load_interrupted : public backend_error {
 public:
  load_interrupted() : backend_error("interrupted", "the lab was interrupted") {}
};

/// Returns the time at which a load may stop waiting for its turn or for a connection. At that time
/// it is called again, because callers with later deadlines may have joined the load. It is called
/// from any thread until the load returns.
using patience = std::function<steady_time()>;

/// backend: answers keys; the lab measures how many loads reach it.
///
/// Threads     load and interrupt, from any thread; the destructor once no load runs.
class backend {
 public:
  virtual ~backend() = default;

  /// Blocks until it has the answer. Throws backend_error.
  virtual row load(const std::string& key, const patience& until) = 0;

  /// Makes the running loads fail soon, and all later loads.
  virtual void interrupt() noexcept = 0;

  /// A description for people.
  virtual std::string name() const = 0;
  /// The query that it runs ("SELECT ..."); empty if it has none.
  virtual std::string query() const { return {}; }
  /// How many loads it runs concurrently; 0 means any number.
  virtual std::size_t connections() const = 0;
};

}  // namespace singleflight::lab
