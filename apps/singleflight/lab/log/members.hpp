// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace singleflight::lab {

/// How the members of a line are written.
enum class member_syntax {
  json,    // {"a": 1, "b": {"c": "x"}}, after a prefix if there is one
  logfmt,  // a=1 b.c="x"
  ltsv     // a:1<tab>b:x
};

/// member_list: the members of a line, each with its path ("b.c") and its value as text. The values
/// in arrays are left out. The strings are reused for the next line.
class member_list {
 public:
  struct member {
    std::string path;
    std::string value;
    bool text = false;  // the value was a string
  };

  /// Reads the members of a line; returns whether it is complete. A line that was cut has the
  /// members before the cut.
  bool read(member_syntax syntax, std::string_view line);

  std::size_t size() const { return size_; }
  const member& operator[](std::size_t index) const { return members_[index]; }

  /// Adds a member. For those that read.
  member& add(std::string_view path);

 private:
  bool read_logfmt(std::string_view line);
  bool read_ltsv(std::string_view line);

  std::vector<member> members_;
  std::size_t size_ = 0;
};

/// Returns the JSON object of a line, without a prefix and a comma after it; empty if it has none.
std::string_view json_of(std::string_view line);

}  // namespace singleflight::lab
