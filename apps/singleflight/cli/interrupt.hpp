// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stop_token>
#include <thread>

namespace singleflight::cli {

/// interrupted: thrown when the user stops the program before it has a result.
struct interrupted {};

/// interrupt_watch: during its lifetime the first Ctrl-C (SIGINT) or SIGTERM requests a stop, and
/// the second one kills the program immediately. At most one object at a time.
class interrupt_watch {
 public:
  interrupt_watch();
  interrupt_watch(const interrupt_watch&) = delete;
  interrupt_watch& operator=(const interrupt_watch&) = delete;
  ~interrupt_watch();

  std::stop_token token() const { return source_.get_token(); }
  /// The exit code that a shell reports for the received signal: 130 or 143; 0 if there was none.
  int exit_code() const;

 private:
  std::stop_source source_;
  std::thread watcher_;
};

}  // namespace singleflight::cli
