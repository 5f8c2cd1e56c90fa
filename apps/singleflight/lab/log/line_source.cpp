// SPDX-License-Identifier: Apache-2.0
#include "lab/log/line_source.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "cli/usage_error.hpp"

namespace singleflight::lab {

line_source::line_source(std::string path)
    : name_(path == "-" ? "standard input" : cli::one_line(path)), buffer_(1U << 16U) {
  int fd = -1;
  if (path == "-") {
    fd = ::dup(STDIN_FILENO);
  } else {
    fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  }
  if (fd < 0) {
    throw cli::usage_error(
        fmt::format("--log: cannot open {}: {}; name a readable file, or - for standard input",
                    name_, std::strerror(errno)));
  }
  struct stat status {};
  if (::fstat(fd, &status) == 0 && S_ISDIR(status.st_mode)) {
    ::close(fd);
    throw cli::usage_error(fmt::format("--log: {} is a directory; name one of its files", name_));
  }
  file_.reset(gzdopen(fd, "rb"));
  if (!file_) {
    ::close(fd);
    throw std::bad_alloc();
  }
  gzbuffer(file_.get(), 1U << 17U);
}

bool line_source::fill() {
  if (truncated_ || interrupted_) return false;
  const int got = gzread(file_.get(), buffer_.data(), static_cast<unsigned>(buffer_.size()));
  int code = Z_OK;
  const char* text = gzerror(file_.get(), &code);
  if (got < 0) {
    if (code == Z_ERRNO && errno == EINTR) {
      interrupted_ = true;
      return false;
    }
    if (code == Z_BUF_ERROR) {
      truncated_ = true;
      return false;
    }
    throw cli::usage_error(
        fmt::format("--log: cannot read {} after line {}: {}; {}", name_, number_,
                    code == Z_ERRNO ? std::strerror(errno) : cli::one_line(text),
                    code == Z_DATA_ERROR ? "the gzip data is damaged; get another copy of the file"
                                         : "name a readable file"));
  }
  if (code == Z_BUF_ERROR) truncated_ = true;
  at_ = 0;
  end_ = static_cast<std::size_t>(got);
  if (std::exchange(at_start_, false) && end_ >= 3 &&
      std::memcmp(buffer_.data(), "\xEF\xBB\xBF", 3) == 0)
    at_ = 3;
  return got > 0;
}

std::string_view line_source::piece(bool& ends) {
  const char* begin = buffer_.data() + at_;
  const auto* newline = static_cast<const char*>(std::memchr(begin, '\n', end_ - at_));
  ends = newline != nullptr;
  const auto size = ends ? static_cast<std::size_t>(newline - begin) : end_ - at_;
  at_ += size + (ends ? 1 : 0);
  return {begin, size};
}

bool line_source::next(line& out) {
  text_.clear();
  bool ends = false;
  bool started = false;
  bool too_long = false;
  while (!ends) {
    if (at_ == end_ && !fill()) break;
    if (at_ == end_) continue;  // the buffer contained only a byte order mark
    started = true;
    const auto part = piece(ends);
    const auto space = longest_line + 1 - text_.size();  // one more, for the carriage return
    text_.append(part.substr(0, space));
    too_long = too_long || part.size() > space;
  }
  // A line before a break in the gzip data may be incomplete: it is unknown where it would have
  // ended.
  if (!started || (!ends && (truncated_ || interrupted_))) return false;
  if (!text_.empty() && text_.back() == '\r' && !too_long) text_.pop_back();
  too_long = too_long || text_.size() > longest_line;
  out = {text_, ++number_, too_long};
  return true;
}

}  // namespace singleflight::lab
