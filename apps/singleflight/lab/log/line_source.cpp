// SPDX-License-Identifier: Apache-2.0
#include "lab/log/line_source.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "lab/log/oracle_general.hpp"

namespace singleflight::lab {

line_source::line_source(const std::string& path, std::stop_token stop)
    : source_(path), stop_(std::move(stop)), buffer_(1U << 18U) {}

// Moves what is left to the front of the buffer, makes room, and reads more after it.
bool line_source::fill() {
  if (stop_.stop_requested()) return false;
  if (at_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + at_, end_ - at_);
    end_ -= at_;
    at_ = 0;
  }
  if (end_ == buffer_.size()) buffer_.resize(buffer_.size() * 2);
  const auto got = source_.read(buffer_.data() + end_, buffer_.size() - end_);
  end_ += got;
  return got > 0;
}

void line_source::skip_rest_of_line() {
  while (true) {
    at_ = end_;
    if (!fill()) return;
    const char* begin = buffer_.data() + at_;
    if (const auto* newline = static_cast<const char*>(std::memchr(begin, '\n', end_ - at_))) {
      at_ += static_cast<std::size_t>(newline - begin) + 1;
      return;
    }
  }
}

void line_source::give(line& out, std::size_t size, bool too_long, bool cut) {
  std::string_view text(buffer_.data() + at_, size);
  if (!text.empty() && text.back() == '\r') text.remove_suffix(1);
  out = {text, ++number_, too_long, cut};
}

void line_source::begin() {
  constexpr std::size_t enough = 50 * oracle_general_record::size_in_bytes;
  while (end_ < enough && fill()) {
  }
  const std::string_view beginning(buffer_.data(), end_);
  if (beginning.starts_with("\xEF\xBB\xBF")) at_ = 3;
  if (looks_like_oracle_general(beginning)) record_size_ = oracle_general_record::size_in_bytes;
}

bool line_source::next_record(line& out) {
  while (end_ - at_ < record_size_ && fill()) {
  }
  const auto size = std::min(record_size_, end_ - at_);
  if (size == 0) return false;
  out = {{buffer_.data() + at_, size}, ++number_, false, size < record_size_};
  at_ += size;
  return true;
}

bool line_source::next(line& out) {
  if (std::exchange(at_start_, false)) begin();
  if (record_size_ > 0) return next_record(out);
  std::size_t searched = 0;
  while (true) {
    const char* begin = buffer_.data() + at_;
    const auto* newline =
        static_cast<const char*>(std::memchr(begin + searched, '\n', end_ - at_ - searched));
    if (newline != nullptr) {
      const auto size = static_cast<std::size_t>(newline - begin);
      give(out, size, size > longest_line + 1, false);
      at_ += size + 1;
      return true;
    }
    searched = end_ - at_;
    if (searched > longest_line + 1) {
      give(out, longest_line, true, false);
      // The rest is read into the same buffer.
      beginning_.assign(out.text.substr(0, 256));
      out.text = beginning_;
      skip_rest_of_line();
      return true;
    }
    if (fill()) continue;
    // A line before a break in compressed data may be incomplete: it is unknown where it would have
    // ended.
    if (at_ == end_ || source_.truncated() || interrupted()) return false;
    give(out, end_ - at_, false, true);
    at_ = end_;
    return true;
  }
}

}  // namespace singleflight::lab
