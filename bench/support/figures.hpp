// SPDX-License-Identifier: Apache-2.0
#pragma once

// A one-shot program passes its measurements to the driver as one JSON object on standard output.

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace bench {

class figures {
 public:
  void add(std::string name, double value) { values_.emplace_back(std::move(name), value); }
  void print() const {
    const char* separator = "{";
    for (const auto& [name, value] : values_) {
      std::printf("%s\"%s\": %.10g", separator, name.c_str(), value);
      separator = ", ";
    }
    std::puts("}");
  }

 private:
  std::vector<std::pair<std::string, double>> values_;
};

/// Returns the value of `--name=value` among the arguments, or `otherwise`.
inline double argument(int argc, char** argv, std::string_view name, double otherwise) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view given = argv[i];
    if (given.size() > name.size() + 3 && given.substr(0, 2) == "--" &&
        given.substr(2, name.size()) == name && given[name.size() + 2] == '=') {
      return std::strtod(argv[i] + name.size() + 3, nullptr);
    }
  }
  return otherwise;
}

/// Ends the program: a benchmark whose work went wrong must not report figures.
[[noreturn]] inline void fail(const char* what) {
  std::fprintf(stderr, "benchmark: %s\n", what);
  std::exit(1);
}

}  // namespace bench
