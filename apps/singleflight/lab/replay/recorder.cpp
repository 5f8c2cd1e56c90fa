// SPDX-License-Identifier: Apache-2.0
#include "lab/replay/recorder.hpp"

namespace singleflight::lab {

void tally::record(std::chrono::nanoseconds latency_of_request, const reply& got) {
  ++requests;
  latency.record(latency_of_request);
  if (got.from == reply::origin::shared) ++saved;
  if (!got.error) {
    ++answered;
    if (got.empty) ++empty;
    return;
  }
  auto& kind = errors[got.error->kind];
  if (++kind.count == 1) kind.example = got.error->what;
}

void tally::add(const tally& other) {
  requests += other.requests;
  answered += other.answered;
  saved += other.saved;
  empty += other.empty;
  latency.add(other.latency);
  for (const auto& [kind, failed] : other.errors) {
    auto& mine = errors[kind];
    if (mine.count == 0) mine.example = failed.example;
    mine.count += failed.count;
  }
}

void recorder::record(std::size_t thread, std::chrono::nanoseconds latency, const reply& got) {
  auto& mine = stripes_[thread % stripes_.size()];
  const std::scoped_lock lock(mine.mutex);
  mine.counts.record(latency, got);
}

tally recorder::sum() const {
  tally all;
  for (const auto& each : stripes_) {
    const std::scoped_lock lock(each.mutex);
    all.add(each.counts);
  }
  return all;
}

}  // namespace singleflight::lab
