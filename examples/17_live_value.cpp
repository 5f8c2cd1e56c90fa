// SPDX-License-Identifier: Apache-2.0
//
// Configuration that is read constantly and changed now and then: reads take no lock, changes have
// versions, and a listener is notified of them.

#include <chrono>
#include <cstdio>
#include <latch>
#include <stdexcept>
#include <string>

#include <singleflight/cache.hpp>

namespace {

struct config {
  std::string greeting;
  int workers = 0;
  friend bool operator==(const config&, const config&) = default;
};

}  // namespace

int main() {
  using namespace std::chrono_literals;
  config file{"hello", 4};
  bool broken = false;

  singleflight::live_value<config> settings(
      [&] {
        if (broken) throw std::runtime_error("line 1: what is this?");
        return file;
      },
      {.reload_every = 1h});  // and whenever reload() is called

  std::latch notified(1);
  const auto subscription = settings.on_change([&](const config& before, const config& now) {
    std::printf("%d workers, now %d\n", before.workers, now.workers);
    notified.count_down();
  });

  const auto request = settings.get();  // the handle keeps one version, whatever changes meanwhile
  file.workers = 8;
  const bool changed = settings.reload();
  const bool again = settings.reload();  // the same value: no new version, no notification

  broken = true;
  std::string error;
  try {
    settings.reload();
  } catch (const std::runtime_error& e) {
    error = e.what();  // the last good value is kept
  }
  notified.wait();
  const auto now = settings.get();
  std::printf("version %d: %s\n", static_cast<int>(now.version()), error.c_str());
  return request->workers == 4 && now->workers == 8 && now.version() == 2 && changed && !again ? 0
                                                                                               : 1;
}
