// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace singleflight::cli {

/// temporary_file: bytes that need not be in memory, in a file without a name, in $TMPDIR or, if
/// that is not set, in /var/tmp, which is on a disk where /tmp may be memory. It vanishes with the
/// object, or with the process.
class temporary_file {
 public:
  /// Throws usage_error, which says how to choose another folder, if it cannot be created.
  temporary_file();
  temporary_file(temporary_file&& other) noexcept;
  temporary_file& operator=(temporary_file&& other) noexcept;
  ~temporary_file();

  /// Throws std::runtime_error, for example if the disk is full.
  void append(const void* bytes, std::size_t size);
  /// Reads up to `size` bytes from `offset` on. Returns how many there were: fewer only at the end
  /// of the file. Throws std::runtime_error.
  std::size_t read(std::uint64_t offset, void* bytes, std::size_t size) const;

 private:
  [[noreturn]] void fail(const char* what) const;

  std::string folder_;
  int fd_;
};

}  // namespace singleflight::cli
