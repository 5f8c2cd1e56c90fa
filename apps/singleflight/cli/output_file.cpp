// SPDX-License-Identifier: Apache-2.0
#include "cli/output_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <utility>

#include "cli/usage_error.hpp"

namespace singleflight::cli {

namespace {

namespace fs = std::filesystem;

// A process writes each file once, so its id makes the name unique.
std::string neighbour_of(const std::string& path) {
  return fmt::format("{}.{}.part", path, ::getpid());
}

// Returns errno, or 0 on success.
int write_all(int fd, std::string_view content) {
  while (!content.empty()) {
    const auto written = ::write(fd, content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    content.remove_prefix(static_cast<std::size_t>(written));
  }
  return 0;
}

}  // namespace

output_file::output_file(std::string option, std::string path) : path_(std::move(path)) {
  const auto refuse = [&](const std::string& why) {
    throw usage_error(fmt::format("{}: cannot write {}: {}; choose a file in a writable folder",
                                  option, one_line(path_), why));
  };
  if (path_.empty()) refuse("the name is empty");
  std::error_code error;
  // For a symbolic link the target is replaced, not the link.
  if (fs::is_symlink(path_, error)) {
    if (const auto target = fs::canonical(path_, error); !error) path_ = target.string();
  }
  const auto status = fs::status(path_, error);
  if (fs::is_directory(status)) refuse("it is a directory");
  in_place_ = fs::exists(status) && !fs::is_regular_file(status);
  if (fs::exists(status) && ::access(path_.c_str(), W_OK) != 0) refuse(std::strerror(errno));
  if (in_place_) return;
  const auto neighbour = neighbour_of(path_);
  const int fd = ::open(neighbour.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) refuse(std::strerror(errno));
  ::close(fd);
  ::unlink(neighbour.c_str());
}

void output_file::write(std::string_view content) const {
  const auto target = in_place_ ? path_ : neighbour_of(path_);
  const int flags = in_place_ ? O_WRONLY : O_WRONLY | O_CREAT | O_TRUNC;
  const int fd = ::open(target.c_str(), flags | O_CLOEXEC, 0666);
  int failed = fd < 0 ? errno : write_all(fd, content);
  if (fd >= 0 && ::close(fd) != 0 && failed == 0) failed = errno;
  if (failed == 0 && !in_place_ && ::rename(target.c_str(), path_.c_str()) != 0) failed = errno;
  if (failed == 0) return;
  if (!in_place_) ::unlink(target.c_str());
  throw std::runtime_error(
      fmt::format("cannot write {}: {}", one_line(path_), std::strerror(failed)));
}

}  // namespace singleflight::cli
