// SPDX-License-Identifier: Apache-2.0
#include "lab/backend/sqlite_backend.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "cli/usage_error.hpp"

namespace singleflight::lab {

class sqlite_backend::lease {
 public:
  lease(sqlite_backend& owner, const patience& until)
      : owner_(owner), connection_(owner.take(until)) {}
  lease(const lease&) = delete;
  lease& operator=(const lease&) = delete;
  ~lease() { owner_.give_back(connection_); }
  sqlite_connection& operator*() const { return connection_; }

 private:
  sqlite_backend& owner_;
  sqlite_connection& connection_;
};

sqlite_backend::sqlite_backend(settings chosen) : settings_(std::move(chosen)) {
  if (settings_.name.empty()) {
    settings_.name =
        fmt::format("SQLite {}, {}", sqlite3_libversion(), cli::one_line(settings_.path));
  }
  const int flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | settings_.extra_flags;
  try {
    for (std::size_t i = 0; i < settings_.connections; ++i) {
      auto& connection =
          connections_.emplace_back(sqlite_connection::settings{settings_.path, flags});
      if (settings_.on_open != nullptr) settings_.on_open(connection.handle());
      // Opening a file does not read it. This statement fails if the file is not a database or is
      // locked, which distinguishes that from a bad query.
      connection.execute("SELECT count(*) FROM sqlite_schema");
      connection.prepare(settings_.query);
      connection.stop_when(interrupted_);
      idle_.push_back(&connection);
    }
  } catch (const sqlite_failure& failure) {
    throw cli::usage_error(
        fmt::format("--db: cannot read {} (connection {} of {}): {}; give an SQLite database file: "
                    "--db sqlite:FILE",
                    cli::one_line(settings_.path), connections_.size() + 1, settings_.connections,
                    cli::one_line(failure.what())));
  }
}

row sqlite_backend::load(const std::string& key, const patience& until) {
  const lease connection(*this, until);
  return (*connection).ask(key);
}

sqlite_connection& sqlite_backend::take(const patience& until) {
  std::unique_lock lock(mutex_);
  if (interrupted_) throw load_interrupted();
  if (!idle_.empty()) {
    auto* connection = idle_.back();
    idle_.pop_back();
    return *connection;
  }
  waiter self;
  waiting_.push_back(&self);
  const auto done = [&] { return self.given != nullptr || interrupted_; };
  while (!done()) {
    const auto limit = until();
    // wait_until with time_point::max() overflows in the clock conversions of libstdc++.
    if (limit == steady_time::max()) {
      self.ready.wait(lock, done);
    } else if (!self.ready.wait_until(lock, limit, done) &&
               until() <= std::chrono::steady_clock::now()) {
      std::erase(waiting_, &self);
      throw no_connection();
    }
  }
  if (self.given == nullptr) {
    std::erase(waiting_, &self);
    throw load_interrupted();
  }
  return *self.given;
}

void sqlite_backend::give_back(sqlite_connection& connection) {
  const std::scoped_lock lock(mutex_);
  if (waiting_.empty() || interrupted_) {
    idle_.push_back(&connection);
    return;
  }
  waiter* const next = waiting_.front();
  waiting_.pop_front();
  next->given = &connection;
  // Notify under the lock: after the unlock the waiter may return, which destroys its condition
  // variable.
  next->ready.notify_one();
}

void sqlite_backend::interrupt() noexcept {
  const std::scoped_lock lock(mutex_);
  interrupted_ = true;
  for (auto* each : waiting_) each->ready.notify_one();
}

}  // namespace singleflight::lab
