// SPDX-License-Identifier: Apache-2.0
#include "lab/backend/faulty_backend.hpp"

#include <fmt/format.h>

#include "cli/units.hpp"
#include "lab/workload/mix.hpp"

namespace singleflight::lab {

namespace {

enum class fault : std::uint64_t { fail, slow };

// FNV-1a by Fowler, Noll and Vo; std::hash may differ between standard libraries.
std::uint64_t hash_of(const std::string& key) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : key) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

// A share of 0 affects no load and a share of 1 every load, because the fraction is below 1.
bool is_hit(fault which, double share, std::uint64_t seed, const std::string& key,
            std::uint64_t number) {
  const auto start = mix(mix(seed) ^ hash_of(key));
  const auto bits = mix(start + (2 * number + std::uint64_t(which)) * splitmix_step);
  return static_cast<double>(bits >> 11U) * 0x1p-53 < share;
}

}  // namespace

bool faults::fails(std::uint64_t seed, const std::string& key, std::uint64_t number) const {
  return is_hit(fault::fail, fail_share, seed, key, number);
}

bool faults::delays(std::uint64_t seed, const std::string& key, std::uint64_t number) const {
  return is_hit(fault::slow, slow_share, seed, key, number);
}

row faulty_backend::load(const std::string& key, const patience& until) {
  auto answer = working_.load(key, until);
  if (!injected_.any()) return answer;
  const auto number = next_number(key);
  if (injected_.delays(seed_, key, number)) delay_answer();
  if (injected_.fails(seed_, key, number)) {
    throw backend_error("injected", "a failure was injected (--fail)");
  }
  return answer;
}

std::uint64_t faulty_backend::next_number(const std::string& key) {
  const std::scoped_lock lock(mutex_);
  return answered_[key]++;
}

void faulty_backend::delay_answer() {
  const auto end = std::chrono::steady_clock::now() + injected_.slow_by;
  std::unique_lock lock(mutex_);
  if (changed_.wait_until(lock, end, [this] { return interrupted_; })) {
    throw load_interrupted();
  }
}

void faulty_backend::interrupt() noexcept {
  {
    const std::scoped_lock lock(mutex_);
    interrupted_ = true;
  }
  changed_.notify_all();
  working_.interrupt();
}

std::string faulty_backend::name() const {
  std::string name = working_.name();
  const bool fails = injected_.fail_share > 0;
  if (fails) name += fmt::format(" that fails {:g} % of the loads", injected_.fail_share * 100);
  if (injected_.slow_share > 0) {
    name += fmt::format(" {} {:g} % of the loads by {}", fails ? "and delays" : "that delays",
                        injected_.slow_share * 100, cli::show_duration(injected_.slow_by));
  }
  return name;
}

}  // namespace singleflight::lab
