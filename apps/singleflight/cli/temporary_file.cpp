// SPDX-License-Identifier: Apache-2.0
#include "cli/temporary_file.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "cli/usage_error.hpp"

namespace singleflight::cli {

namespace {

std::string folder() {
  const char* chosen = std::getenv("TMPDIR");
  return chosen != nullptr && *chosen != '\0' ? chosen : "/var/tmp";
}

}  // namespace

temporary_file::temporary_file() : folder_(folder()) {
  auto name = folder_ + "/singleflight.XXXXXX";
  fd_ = ::mkstemp(name.data());
  if (fd_ < 0) {
    throw usage_error(
        fmt::format("cannot create a temporary file in {}: {}; name a folder with "
                    "space in the environment: TMPDIR=FOLDER",
                    one_line(folder_), std::strerror(errno)));
  }
  ::unlink(name.c_str());
}

temporary_file::temporary_file(temporary_file&& other) noexcept
    : folder_(std::move(other.folder_)), fd_(std::exchange(other.fd_, -1)) {}

temporary_file& temporary_file::operator=(temporary_file&& other) noexcept {
  std::swap(folder_, other.folder_);
  std::swap(fd_, other.fd_);
  return *this;
}

temporary_file::~temporary_file() {
  if (fd_ >= 0) ::close(fd_);
}

void temporary_file::fail(const char* what) const {
  throw std::runtime_error(
      fmt::format("cannot {} a temporary file in {}: {}; name a folder with space in the "
                  "environment: TMPDIR=FOLDER",
                  what, one_line(folder_), std::strerror(errno)));
}

void temporary_file::append(const void* bytes, std::size_t size) {
  const auto* at = static_cast<const char*>(bytes);
  while (size > 0) {
    const auto written = ::write(fd_, at, size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("write");
    at += written;
    size -= static_cast<std::size_t>(written);
  }
}

std::size_t temporary_file::read(std::uint64_t offset, void* bytes, std::size_t size) const {
  auto* at = static_cast<char*>(bytes);
  std::size_t all = 0;
  while (all < size) {
    const auto got = ::pread(fd_, at + all, size - all, static_cast<off_t>(offset + all));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("read");
    if (got == 0) break;
    all += static_cast<std::size_t>(got);
  }
  return all;
}

}  // namespace singleflight::cli
