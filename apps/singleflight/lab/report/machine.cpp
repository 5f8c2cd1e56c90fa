// SPDX-License-Identifier: Apache-2.0
#include "lab/report/machine.hpp"

#include <fmt/format.h>
#include <sys/utsname.h>

#include <fstream>
#include <string_view>
#include <thread>

namespace singleflight::lab {

namespace {

std::string processor_model() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (!line.starts_with("model name")) continue;
    if (const auto colon = line.find(": "); colon != std::string::npos)
      return line.substr(colon + 2);
  }
  return "processor";
}

std::string compiler() {
#if defined(__clang__)
  return fmt::format("Clang {}.{}", __clang_major__, __clang_minor__);
#elif defined(__GNUC__)
  return fmt::format("GCC {}.{}", __GNUC__, __GNUC_MINOR__);
#else
  return "an unknown compiler";
#endif
}

}  // namespace

std::string describe_machine() {
  utsname system{};
  const bool known = ::uname(&system) == 0;
  return fmt::format("{} x {}, {} {}, built with {}", std::thread::hardware_concurrency(),
                     processor_model(), known ? std::string_view(system.sysname) : "unknown system",
                     known ? std::string_view(system.release) : "", compiler());
}

}  // namespace singleflight::lab
