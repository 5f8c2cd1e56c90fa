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

/// What a backend answered to one key.
struct row {
  std::string text;      // the rows, one a line, columns parted by tabs
  std::size_t rows = 0;  // none is an answer too
};

/// backend_error: a load failed. `kind` is short and the same for like failures ("sqlite_busy"): it
/// is counted.
class backend_error : public std::runtime_error {
 public:
  backend_error(std::string kind, const std::string& what)
      : std::runtime_error(what), kind_(std::move(kind)) {}
  const std::string& kind() const noexcept { return kind_; }

 private:
  std::string kind_;
};

/// not_asked: the load failed on its way; nothing was asked of the backend.
class not_asked : public backend_error {
 public:
  using backend_error::backend_error;
};

/// no_connection: nobody waited for this load any longer when its turn, or a connection, came.
class no_connection : public not_asked {
 public:
  explicit no_connection(const char* what = "no connection became free before the deadline")
      : not_asked("timed_out", what) {}
};

/// load_interrupted: interrupt() has ended the load.
class load_interrupted : public backend_error {
 public:
  load_interrupted() : backend_error("interrupted", "the lab was interrupted") {}
};

/// When a load may give up waiting for its turn or for a connection. Asked again each time that
/// moment has come: those who wait for a shared load may have become more patient ones meanwhile.
/// From any thread, until the load returns.
using patience = std::function<steady_time()>;

/// backend: what answers a key when nobody spares it the work.
///
/// Threads     load and interrupt, from any thread; the destructor once nothing runs.
class backend {
 public:
  virtual ~backend() = default;

  /// Blocks until it has the answer. Throws backend_error.
  virtual row load(const std::string& key, const patience& until) = 0;

  /// Makes the running loads fail soon, and all that come later.
  virtual void interrupt() noexcept = 0;

  /// What it is, in words for people.
  virtual std::string name() const = 0;
  /// What is asked of it, if that can be said ("SELECT ...").
  virtual std::string query() const { return {}; }
  /// How many loads it runs at once; 0 means any number.
  virtual std::size_t connections() const = 0;
};

}  // namespace singleflight::lab
