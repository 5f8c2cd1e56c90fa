// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

namespace singleflight::cli {

/// progress_line: "flight  [=======>      ] 48 %  960 of 2,000  about 12.0 s left". `elapsed` is
/// the time since the run began.
std::string progress_line(std::string_view label, std::uint64_t done, std::uint64_t total,
                          std::chrono::nanoseconds elapsed);

/// progress_bar: if standard error is a terminal, one line on it that is redrawn ten times a second
/// and erased by the destructor; otherwise nothing.
class progress_bar {
 public:
  progress_bar(std::string label, std::uint64_t total, const std::atomic<std::uint64_t>& done);
  progress_bar(const progress_bar&) = delete;
  progress_bar& operator=(const progress_bar&) = delete;
  ~progress_bar();

 private:
  void draw();

  std::string label_;
  std::uint64_t total_;
  const std::atomic<std::uint64_t>& done_;
  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
  std::mutex mutex_;  // guards ended_
  std::condition_variable changed_;
  bool ended_ = false;
  std::thread drawer_;
};

}  // namespace singleflight::cli
