// SPDX-License-Identifier: Apache-2.0
#include "lab/log/byte_source.hpp"

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

namespace {

// Kinds of data that must be converted, and how.
struct foreign_kind {
  std::string_view magic;
  const char* name;
  const char* command;
};
constexpr foreign_kind foreign_kinds[] = {
    {{"PK\x03\x04", 4}, "a zip archive", "unzip -p FILE"},
    {{"\xff\xfe", 2}, "UTF-16", "iconv -f UTF-16 -t UTF-8 FILE"},
    {{"\xfe\xff", 2}, "UTF-16", "iconv -f UTF-16 -t UTF-8 FILE"},
    {{"\x04\x22\x4d\x18", 4}, "lz4 data", "lz4 -dc FILE"},
    {{"7z\xbc\xaf\x27\x1c", 6}, "a 7-Zip archive", "7z x -so FILE"},
    {{"\xff\x06\x00\x00sNaPpY", 10}, "snappy data", "snzip -dc FILE"},
    {{"PAR1", 4}, "a Parquet file", "duckdb -csv -c \"SELECT * FROM 'FILE'\""},
    {{"SQLite format 3", 15}, "an SQLite database", "sqlite3 -csv -header FILE 'SELECT ...'"},
};

// Text in UTF-16 without a mark: every other byte of its beginning is 0.
const char* utf16_without_mark(std::string_view text) {
  const auto sample = text.substr(0, 64);
  if (sample.size() < 8) return nullptr;
  std::size_t zeros[2] = {0, 0};
  for (std::size_t i = 0; i < sample.size(); ++i) zeros[i % 2] += sample[i] == '\0' ? 1U : 0U;
  const auto half = sample.size() / 2;
  if (zeros[1] == half && zeros[0] == 0) return "UTF-16LE";
  if (zeros[0] == half && zeros[1] == 0) return "UTF-16BE";
  return nullptr;
}

[[noreturn]] void refuse(const std::string& name, std::string_view kind, std::string_view command) {
  throw cli::usage_error(
      fmt::format("--log: {} is {}, which the lab does not read; convert it: {} | singleflight lab "
                  "--log -",
                  name, kind, command));
}

}  // namespace

byte_source::byte_source(const std::string& path)
    : name_(path == "-" ? "standard input" : cli::one_line(path)), packed_(1U << 18U) {
  fd_ = path == "-" ? ::dup(STDIN_FILENO) : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd_ < 0) {
    throw cli::usage_error(
        fmt::format("--log: cannot open {}: {}; name a readable file, or - for standard input",
                    name_, std::strerror(errno)));
  }
  struct stat status {};
  if (::fstat(fd_, &status) == 0 && S_ISDIR(status.st_mode)) {
    ::close(fd_);
    throw cli::usage_error(fmt::format("--log: {} is a directory; name one of its files", name_));
  }
}

byte_source::~byte_source() { ::close(fd_); }

std::size_t byte_source::read_file(char* out, std::size_t capacity) {
  const auto got = ::read(fd_, out, capacity);
  if (got >= 0) return static_cast<std::size_t>(got);
  if (errno == EINTR) {
    interrupted_ = true;
    return 0;
  }
  throw cli::usage_error(
      fmt::format("--log: cannot read {}: {}; name a readable file", name_, std::strerror(errno)));
}

// Reads the beginning, which shows what the file is.
void byte_source::begin() {
  constexpr std::size_t enough = 64;
  std::size_t size = 0;
  while (size < enough) {
    const auto got = read_file(packed_.data() + size, packed_.size() - size);
    if (got == 0) break;
    size += got;
  }
  pending_ = {packed_.data(), size};
  decoder_ = decoder_for(pending_);
  within_member_ = decoder_ != nullptr;
  if (decoder_) return;
  for (const auto& [magic, kind, command] : foreign_kinds) {
    if (pending_.starts_with(magic)) refuse(name_, kind, command);
  }
  if (const char* encoding = utf16_without_mark(pending_)) {
    refuse(name_, "UTF-16", fmt::format("iconv -f {} -t UTF-8 FILE", encoding));
  }
}

std::size_t byte_source::read(char* out, std::size_t capacity) {
  if (truncated_ || interrupted_) return 0;
  if (!std::exchange(began_, true)) begin();
  if (interrupted_) return 0;
  if (decoder_) return decode(out, capacity);
  if (pending_.empty()) return read_file(out, capacity);
  const auto size = std::min(capacity, pending_.size());
  std::memcpy(out, pending_.data(), size);
  pending_.remove_prefix(size);
  return size;
}

std::size_t byte_source::decode(char* out, std::size_t capacity) {
  while (true) {
    bool at_end = false;
    if (pending_.empty()) {
      pending_ = {packed_.data(), read_file(packed_.data(), packed_.size())};
      at_end = pending_.empty();
      if (interrupted_) return 0;
    }
    if (!within_member_) {
      while (!pending_.empty() && decoder_->skips(pending_.front())) pending_.remove_prefix(1);
      if (pending_.empty() && !at_end) continue;
      if (at_end || !decoder_->begins(pending_)) return 0;
      decoder_->restart();
      within_member_ = true;
    }
    std::size_t made = 0;
    const auto state = decoder_->run(pending_, out, capacity, made);
    if (state == decoder::state::damaged) {
      throw cli::usage_error(
          fmt::format("--log: the {} data of {} is damaged; get another copy of "
                      "the file",
                      decoder_->name(), name_));
    }
    within_member_ = state != decoder::state::end;
    if (made > 0) return made;
    if (at_end && within_member_) {
      truncated_ = true;
      return 0;
    }
  }
}

}  // namespace singleflight::lab
