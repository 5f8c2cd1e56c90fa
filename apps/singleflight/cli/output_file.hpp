// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace singleflight::cli {

/// output_file: a file that is written whole or not at all: first beside its place under another
/// name, then renamed. What is there already and is no plain file (a pipe, /dev/null) is written to
/// as it is.
class output_file {
 public:
  /// Throws usage_error, naming the option, if the file cannot be written; changes nothing.
  output_file(std::string option, std::string path);

  /// Throws std::runtime_error.
  void write(std::string_view content) const;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
  bool in_place_ = false;
};

}  // namespace singleflight::cli
