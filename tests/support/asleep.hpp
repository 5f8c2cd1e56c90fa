// SPDX-License-Identifier: Apache-2.0
#pragma once

// Whether a thread is asleep, as the system sees it (Linux). For tests in which that thread can,
// from some moment on, fall asleep in one place only.

#include <unistd.h>

#include <cstdio>
#include <string>

namespace support {

/// Constructed by the thread in question, queried by others.
class asleep {
 public:
  asleep() : path_("/proc/self/task/" + std::to_string(::gettid()) + "/stat") {}

  bool operator()() const {
    char text[512] = {};
    std::FILE* const file = std::fopen(path_.c_str(), "r");
    if (file == nullptr) return false;
    const std::size_t count = std::fread(text, 1, sizeof(text) - 1, file);
    std::fclose(file);
    const std::string line(text, count);  // number (name) state …
    const std::size_t at = line.rfind(')');
    return at != std::string::npos && at + 2 < line.size() && line[at + 2] == 'S';
  }

 private:
  const std::string path_;
};

}  // namespace support
