// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stop_token>
#include <thread>

namespace singleflight::cli {

/// interrupted: thrown where the user broke off before there was a result.
struct interrupted {};

/// interrupt_watch: while it lives, the first Ctrl-C (SIGINT) or SIGTERM asks to stop, and the
/// second one kills the program at once. One at a time.
class interrupt_watch {
 public:
  interrupt_watch();
  interrupt_watch(const interrupt_watch&) = delete;
  interrupt_watch& operator=(const interrupt_watch&) = delete;
  ~interrupt_watch();

  std::stop_token token() const { return source_.get_token(); }
  /// What a shell reports for the signal that came: 130 or 143; 0 if none came.
  int exit_code() const;

 private:
  std::stop_source source_;
  std::thread watcher_;
};

}  // namespace singleflight::cli
