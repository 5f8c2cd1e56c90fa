// SPDX-License-Identifier: Apache-2.0
#pragma once

// How a one-shot program hands its measurements to the driver: one JSON object on standard output.

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

/// The value of `--name=value` among the arguments, else `otherwise`.
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

/// A benchmark whose work went wrong has no figures.
[[noreturn]] inline void fail(const char* what) {
  std::fprintf(stderr, "benchmark: %s\n", what);
  std::exit(1);
}

}  // namespace bench
