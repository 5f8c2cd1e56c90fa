// SPDX-License-Identifier: Apache-2.0
#include "lab/replay/load_series.hpp"

#include <algorithm>

namespace singleflight::lab {

void load_series::change(duration when, int delta) {
  advance(when);
  level_ = static_cast<std::uint32_t>(static_cast<std::int64_t>(level_) + delta);
  most_ = std::max(most_, level_);
  auto& now = slots_[static_cast<std::size_t>(now_ / width_)];
  now.most = std::max(now.most, level_);
}

void load_series::finish(duration when) { advance(when); }

// Sets now_ to `when`, creates the slots up to it, and adds the current level to the slots in
// between.
void load_series::advance(duration when) {
  when = std::max(when, now_);
  while (when / width_ >= static_cast<std::int64_t>(most_intervals)) halve();
  const auto last = static_cast<std::size_t>(when / width_);
  if (slots_.size() <= last) slots_.resize(last + 1);
  for (auto i = static_cast<std::size_t>(now_ / width_); i <= last; ++i) {
    const auto begin = std::max(now_, width_ * static_cast<std::int64_t>(i));
    const auto end = std::min(when, width_ * static_cast<std::int64_t>(i + 1));
    if (end <= begin) continue;
    slots_[i].load_ns += (end - begin).count() * static_cast<std::int64_t>(level_);
    slots_[i].most = std::max(slots_[i].most, level_);
  }
  now_ = when;
}

void load_series::halve() {
  for (std::size_t i = 0; i < slots_.size(); i += 2) {
    auto merged = slots_[i];
    if (i + 1 < slots_.size()) {
      merged.load_ns += slots_[i + 1].load_ns;
      merged.most = std::max(merged.most, slots_[i + 1].most);
    }
    slots_[i / 2] = merged;
  }
  slots_.resize((slots_.size() + 1) / 2);
  width_ *= 2;
}

std::vector<load_series::interval> load_series::intervals() const {
  std::vector<interval> filled;
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    const auto begin = width_ * static_cast<std::int64_t>(i);
    const auto length = std::min(width_, now_ - begin);
    if (length <= duration(0)) continue;
    filled.push_back({static_cast<double>(slots_[i].load_ns) / static_cast<double>(length.count()),
                      slots_[i].most});
  }
  return filled;
}

}  // namespace singleflight::lab
