// SPDX-License-Identifier: Apache-2.0
#include "lab/replay/load_meter.hpp"

namespace singleflight::lab {

row load_meter::load(const std::string& key, const patience& until) {
  change(+1, false);
  try {
    auto answer = backend_.load(key, until);
    change(-1, true);
    return answer;
  } catch (const not_asked&) {
    change(-1, false);
    throw;
  } catch (...) {
    change(-1, true);
    throw;
  }
}

void load_meter::change(int delta, bool counts) {
  const auto now = std::chrono::steady_clock::now();
  const std::scoped_lock lock(mutex_);
  if (stopped_) return;
  series_.change(now - began_, delta);
  if (counts) ++loads_;
}

void load_meter::start() {
  const std::scoped_lock lock(mutex_);
  began_ = std::chrono::steady_clock::now();
}

void load_meter::stop() {
  const auto now = std::chrono::steady_clock::now();
  const std::scoped_lock lock(mutex_);
  if (stopped_) return;
  stopped_ = true;
  series_.finish(now - began_);
}

std::uint64_t load_meter::loads() const {
  const std::scoped_lock lock(mutex_);
  return loads_;
}

load_series load_meter::series() const {
  const std::scoped_lock lock(mutex_);
  return series_;
}

}  // namespace singleflight::lab
