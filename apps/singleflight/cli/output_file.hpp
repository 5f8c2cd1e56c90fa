// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace singleflight::cli {

/// output_file: a file that is written completely or not at all: the content goes to a temporary
/// file in the same folder, which is then renamed. A path that exists and is not a regular file (a
/// pipe, /dev/null) is written to directly.
class output_file {
 public:
  /// Throws usage_error, which names the option, if the file cannot be written. Changes no file.
  output_file(std::string option, std::string path);

  /// Throws std::runtime_error.
  void write(std::string_view content) const;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
  bool in_place_ = false;
};

}  // namespace singleflight::cli
