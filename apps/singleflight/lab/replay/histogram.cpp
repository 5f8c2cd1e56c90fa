// SPDX-License-Identifier: Apache-2.0
#include "lab/replay/histogram.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace singleflight::lab {

namespace {

constexpr unsigned part_bits = 7;
constexpr std::size_t parts = std::size_t{1} << part_bits;
constexpr unsigned value_bits = 63;  // a duration is signed; a negative one counts as zero

}  // namespace

histogram::histogram() : counts_((value_bits - part_bits + 1) * parts) {}

// Below 128 ns a bucket is one nanosecond wide. Above that, a value whose highest bit is 7 + r
// belongs to row r + 1, and the seven bits after the highest one select the place in the row.
std::size_t histogram::index_of(std::uint64_t ns) {
  if (ns < parts) return ns;
  const auto row = static_cast<unsigned>(std::bit_width(ns)) - part_bits;
  return row * parts + ((ns >> (row - 1)) - parts);
}

std::uint64_t histogram::low_of(std::size_t index) {
  const auto row = index / parts;
  const auto place = index % parts;
  return row == 0 ? place : (parts + place) << (row - 1);
}

void histogram::record(duration value) {
  const auto ns = std::max<std::int64_t>(value.count(), 0);
  ++counts_[index_of(static_cast<std::uint64_t>(ns))];
  ++count_;
  max_ns_ = std::max(max_ns_, ns);
}

void histogram::add(const histogram& other) {
  for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
  count_ += other.count_;
  max_ns_ = std::max(max_ns_, other.max_ns_);
}

histogram::duration histogram::quantile(double fraction) const {
  if (count_ == 0) return duration(0);
  const auto wanted = std::clamp<std::uint64_t>(
      static_cast<std::uint64_t>(std::ceil(fraction * static_cast<double>(count_))), 1, count_);
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < counts_.size(); ++i) {
    seen += counts_[i];
    if (seen >= wanted) {
      return duration(std::min(static_cast<std::int64_t>(low_of(i + 1) - 1), max_ns_));
    }
  }
  return duration(max_ns_);
}

std::vector<histogram::bucket> histogram::buckets() const {
  std::vector<bucket> filled;
  for (std::size_t i = 0; i < counts_.size(); ++i) {
    if (counts_[i] == 0) continue;
    filled.push_back({duration(low_of(i)), duration(low_of(i + 1)), counts_[i]});
  }
  return filled;
}

}  // namespace singleflight::lab
