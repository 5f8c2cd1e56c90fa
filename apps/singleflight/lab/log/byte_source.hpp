// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace singleflight::lab {

/// decoder: decompresses one kind of data.
class decoder {
 public:
  enum class state { more, end, damaged };
  virtual ~decoder() = default;
  /// Consumes from the front of `in`, writes up to `capacity` bytes to `out` and sets `made`.
  /// Returns `end` after the last byte of a member.
  virtual state run(std::string_view& in, char* out, std::size_t capacity, std::size_t& made) = 0;
  /// Prepares for another member, which files that were concatenated have.
  virtual void restart() = 0;
  /// "gzip"
  virtual const char* name() const = 0;
  /// Whether a further member can begin like this; other bytes after a member are ignored.
  virtual bool begins(std::string_view in) const = 0;
  /// Whether a further member can follow this byte after a member.
  virtual bool skips(char) const { return false; }
};

/// Returns the decoder for data that begins like this; null if it is not compressed.
std::unique_ptr<decoder> decoder_for(std::string_view beginning);

/// byte_source: the bytes of a file, decompressed if it is gzip, zstd, xz or bzip2, which its
/// content decides.
///
/// Errors      usage_error: the file cannot be opened or read, its data is damaged, or it is of a
///             kind that must be converted first (zip, UTF-16): the message names the command.
class byte_source {
 public:
  /// "-" is standard input.
  explicit byte_source(const std::string& path);
  byte_source(const byte_source&) = delete;
  byte_source& operator=(const byte_source&) = delete;
  ~byte_source();

  /// Returns the number of bytes read; 0 at the end.
  std::size_t read(char* out, std::size_t capacity);

  /// Whether the compressed data ended before it was complete.
  bool truncated() const { return truncated_; }
  /// Whether a signal interrupted the reading.
  bool interrupted() const { return interrupted_; }
  const std::string& name() const { return name_; }

 private:
  std::size_t read_file(char* out, std::size_t capacity);
  std::size_t decode(char* out, std::size_t capacity);
  void begin();

  std::string name_;
  int fd_ = -1;
  std::unique_ptr<decoder> decoder_;
  std::vector<char> packed_;
  std::string_view pending_;  // of packed_: what was read and not yet used
  bool began_ = false;
  bool within_member_ = false;
  bool truncated_ = false;
  bool interrupted_ = false;
};

}  // namespace singleflight::lab
