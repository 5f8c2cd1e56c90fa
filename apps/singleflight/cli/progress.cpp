// SPDX-License-Identifier: Apache-2.0
#include "cli/progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <utility>

#include "cli/units.hpp"

namespace singleflight::cli {

std::string progress_line(std::string_view label, std::uint64_t done, std::uint64_t total,
                          std::chrono::nanoseconds elapsed) {
  constexpr std::size_t width = 30;
  const double part = total == 0 ? 1 : static_cast<double>(done) / static_cast<double>(total);
  const auto filled = static_cast<std::size_t>(part * static_cast<double>(width));
  std::string bar(filled, '=');
  if (filled < width) bar += '>';
  bar.resize(width, ' ');
  std::string line = fmt::format("{:<8} [{}] {:3.0f} %  {} of {}", label, bar, part * 100,
                                 show_count(done), show_count(total));
  if (done > 0 && done < total && elapsed > std::chrono::seconds(1)) {
    const auto left = std::chrono::duration<double>(elapsed).count() * (1 - part) / part;
    line += fmt::format("  about {} left",
                        show_duration(std::chrono::seconds(static_cast<std::int64_t>(left) + 1)));
  }
  return line;
}

progress_bar::progress_bar(std::string label, std::uint64_t total,
                           const std::atomic<std::uint64_t>& done)
    : label_(std::move(label)), total_(total), done_(done) {
  if (::isatty(STDERR_FILENO) == 1) drawer_ = std::thread([this] { draw(); });
}

progress_bar::~progress_bar() {
  if (!drawer_.joinable()) return;
  {
    const std::scoped_lock lock(mutex_);
    ended_ = true;
  }
  changed_.notify_one();
  drawer_.join();
}

void progress_bar::draw() {
  std::unique_lock lock(mutex_);
  do {
    const auto elapsed = std::chrono::steady_clock::now() - began_;
    fmt::print(stderr, "\r\x1b[K{}",
               progress_line(label_, done_.load(std::memory_order_relaxed), total_, elapsed));
    std::fflush(stderr);
  } while (!changed_.wait_for(lock, std::chrono::milliseconds(100), [this] { return ended_; }));
  fmt::print(stderr, "\r\x1b[K");
  std::fflush(stderr);
}

}  // namespace singleflight::cli
