// SPDX-License-Identifier: Apache-2.0

// A loading cache compared with a plain map, through random sequences of calls on a manual clock.
//
// Nothing is evicted, and loads run on the calling thread, so the result of each call is
// determined.

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>
#include <rapidcheck/state.h>

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <ostream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <singleflight/cache.hpp>

namespace {

using namespace std::chrono_literals;
using singleflight::cached;
using singleflight::freshness;
using singleflight::inline_executor;
using singleflight::loading_cache;
using singleflight::manual_timer;
using singleflight::outcome;

constexpr int keys = 6;
// All times are multiples of a tick, and the clock only makes whole steps, so ages are exact.
constexpr auto unit = std::chrono::nanoseconds(1 << 16);
constexpr int ttl = 10;
constexpr int negative_ttl = 4;
constexpr int error_ttl = 3;
constexpr int stale_for = 20;
constexpr int retry_after = 2;
constexpr int max_retry_after = 5;

/// The result of a call.
struct seen {
  enum what { nothing, fresh, stale, absent, error } how = nothing;
  int value = 0;
  bool operator==(const seen&) const = default;
  friend std::ostream& operator<<(std::ostream& to, const seen& s) {
    constexpr const char* words[] = {"nothing", "fresh", "stale", "absent", "error"};
    return to << words[s.how] << ' ' << s.value;
  }
};

// ---- the map ------------------------------------------------------------------------------------

struct known {
  seen::what how;  // fresh, absent, error
  int value;
  int since;
  int retry_at = 0;
  int failures = 0;
};

struct model {
  std::map<int, known> map;
  int now = 0;
  int loads = 0;
  int backend = 0;  // 0: values; 1: absences; 2: failures
  bool stales = false;
  bool errors = false;
  bool absences = false;

  bool fresh(const known& k) const {
    const int age = now - k.since;
    switch (k.how) {
      case seen::fresh: return age < ttl;
      case seen::absent: return age < negative_ttl;
      default: return age < error_ttl;
    }
  }
  bool stale(const known& k) const {
    return stales && k.how == seen::fresh && !fresh(k) && now - k.since < ttl + stale_for;
  }
  seen find(int key) const {
    const auto at = map.find(key);
    if (at == map.end() || !fresh(at->second) || at->second.how == seen::error) return {};
    return {at->second.how, at->second.value};
  }
  seen get(int key) {
    const auto at = map.find(key);
    if (at != map.end()) {
      known& k = at->second;
      if (fresh(k)) return {k.how, k.value};
      if (stale(k) && k.retry_at > now) return {seen::stale, k.value};
    }
    return load(key);
  }
  seen load(int key) {
    const int n = ++loads;
    if (backend == 0) {
      map[key] = {seen::fresh, n, now};
      return {seen::fresh, n};
    }
    if (backend == 1) {
      map.erase(key);
      if (absences) map[key] = {seen::absent, 0, now};
      return {seen::absent, 0};
    }
    const auto at = map.find(key);
    if (at != map.end() && at->second.how == seen::fresh &&
        (fresh(at->second) || stale(at->second))) {
      known& k = at->second;
      ++k.failures;
      int wait = retry_after;
      for (int i = 1; i < k.failures && wait < max_retry_after; ++i) wait *= 2;
      k.retry_at = now + std::min(wait, max_retry_after);
      return {fresh(k) ? seen::fresh : seen::stale, k.value};
    }
    if (errors) map[key] = {seen::error, 0, now};
    return {seen::error, 0};
  }
  std::size_t of_use() const {
    std::size_t count = 0;
    for (const auto& [key, k] : map) count += fresh(k) || stale(k) ? 1U : 0U;
    return count;
  }
};

// ---- the cache ----------------------------------------------------------------------------------

struct real {
  manual_timer time{std::chrono::steady_clock::time_point(unit * (1 << 20))};
  int backend = 0;
  int loads = 0;
  std::optional<loading_cache<int, int>> cache;

  explicit real(const model& of) {
    cache.emplace(
        [this](int) -> std::optional<int> {
          ++loads;
          if (backend == 1) return std::nullopt;
          if (backend == 2) throw std::runtime_error("down");
          return loads;
        },
        singleflight::cache_options<int, int>{
            .capacity = 1000,
            .ttl = ttl * unit,
            .jitter = 0,
            .stale_if_error = of.stales ? stale_for * unit : 0ns,
            .retry_after = retry_after * unit,
            .max_retry_after = max_retry_after * unit,
            .negative_ttl = of.absences ? negative_ttl * unit : 0ns,
            .error_ttl = of.errors ? error_ttl * unit : 0ns,
            .group = {.executor = inline_executor, .timer = &time}});
  }
  static seen of(const cached<int>& c) {
    switch (c.freshness()) {
      case freshness::fresh: return {seen::fresh, *c};
      case freshness::stale: return {seen::stale, *c};
      case freshness::absent: break;
    }
    return {seen::absent, 0};
  }
  template <class Call>
  static seen of_call(Call&& call) {
    try {
      return of(call());
    } catch (const std::runtime_error&) {
      return {seen::error, 0};
    }
  }
};

using command = rc::state::Command<model, real>;

/// A command with the same effect and the same result on the model and on the cache.
template <class Self>
struct alike : command {
  void apply(model& m) const override { static_cast<const Self&>(*this).on(m); }
  void run(const model& m, real& r) const override {
    const auto& self = static_cast<const Self&>(*this);
    model next = m;
    const auto expected = self.on(next);
    RC_ASSERT(self.on(r) == expected);
    RC_ASSERT(r.loads == next.loads);
    for (int k = 0; k < keys; ++k) {
      const auto info = r.cache->policy().explain(k);
      const auto at = next.map.find(k);
      RC_ASSERT((info.present && info.fresh) == (at != next.map.end() && next.fresh(at->second)));
    }
    const auto entries = r.cache->stats().entries;
    RC_ASSERT(entries >= next.of_use());
    RC_ASSERT(entries <= next.map.size());  // expired entries may have been swept
  }
};

struct get : alike<get> {
  int key = *rc::gen::inRange(0, keys);
  int how = *rc::gen::inRange(0, 3);
  seen on(model& m) const { return m.get(key); }
  seen on(real& r) const {
    if (how == 0) return real::of_call([&] { return r.cache->start_get(key).get(); });
    if (how == 1) return real::of_call([&] { return r.cache->get(key, singleflight::limits{}); });
    return real::of_call([&] { return r.cache->get(key); });
  }
  void show(std::ostream& to) const override { to << "get " << key; }
};
struct find : alike<find> {
  int key = *rc::gen::inRange(0, keys);
  seen on(model& m) const { return m.find(key); }
  seen on(real& r) const {
    const auto found = r.cache->find(key);
    return found ? real::of(*found) : seen{};
  }
  void show(std::ostream& to) const override { to << "find " << key; }
};
struct get_all : alike<get_all> {
  std::vector<int> of = *rc::gen::container<std::vector<int>>(rc::gen::inRange(0, keys));
  std::vector<seen> on(model& m) const {
    // Looks up all keys first, then loads the missing ones, each key once.
    std::vector<seen> all(of.size());
    std::vector<std::size_t> missing;
    for (std::size_t i = 0; i < of.size(); ++i) {
      const auto at = m.map.find(of[i]);
      if (at != m.map.end() && m.fresh(at->second)) {
        all[i] = {at->second.how, at->second.value};
      } else if (at != m.map.end() && m.stale(at->second) && at->second.retry_at > m.now) {
        all[i] = {seen::stale, at->second.value};
      } else {
        missing.push_back(i);
      }
    }
    std::map<int, seen> loaded;
    for (const std::size_t i : missing) {
      if (!loaded.contains(of[i])) loaded[of[i]] = m.load(of[i]);
      all[i] = loaded[of[i]];
    }
    return all;
  }
  std::vector<seen> on(real& r) const {
    std::vector<seen> all;
    for (auto& one : r.cache->get_all(of)) {
      all.push_back(real::of_call([&]() -> cached<int> { return std::move(one).value(); }));
    }
    return all;
  }
  void show(std::ostream& to) const override {
    to << "get_all";
    for (const int k : of) to << ' ' << k;
  }
};
struct put : alike<put> {
  int key = *rc::gen::inRange(0, keys);
  int value = *rc::gen::inRange(1000, 2000);
  bool on(model& m) const {
    m.map[key] = {seen::fresh, value, m.now};
    return true;
  }
  bool on(real& r) const {
    r.cache->put(key, value);
    return true;
  }
  void show(std::ostream& to) const override { to << "put " << key << ' ' << value; }
};
struct invalidate : alike<invalidate> {
  int key = *rc::gen::inRange(0, keys);
  bool on(model& m) const {
    // Whether an expired entry is still stored is not determined.
    const auto at = m.map.find(key);
    const bool there = at != m.map.end() && (m.fresh(at->second) || m.stale(at->second));
    m.map.erase(key);
    return there;
  }
  bool on(real& r) const {
    const auto info = r.cache->policy().explain(key);
    const bool any = r.cache->invalidate(key);
    RC_ASSERT(any || !info.present || !info.fresh);
    return any && (info.fresh || stale_);
  }
  void run(const model& m, real& r) const override {
    const auto at = m.map.find(key);
    stale_ = at != m.map.end() && m.stale(at->second);
    alike::run(m, r);
  }
  void show(std::ostream& to) const override { to << "invalidate " << key; }
  mutable bool stale_ = false;
};
struct invalidate_if : alike<invalidate_if> {
  int below = *rc::gen::inRange(0, keys + 1);
  bool by_value = *rc::gen::arbitrary<bool>();
  bool on(model& m) const {
    std::erase_if(m.map, [&](const auto& at) {
      return at.first < below &&
             (!by_value || (at.second.how == seen::fresh && at.second.value % 2 == 0));
    });
    return true;
  }
  bool on(real& r) const {
    if (by_value) {
      r.cache->invalidate_if([&](int k, int v) { return k < below && v % 2 == 0; });
    } else {
      r.cache->invalidate_if([&](int k) { return k < below; });
    }
    return true;
  }
  void show(std::ostream& to) const override {
    to << "invalidate_if " << (by_value ? "even " : "") << "below " << below;
  }
};
struct clear : alike<clear> {
  bool on(model& m) const {
    m.map.clear();
    return true;
  }
  bool on(real& r) const {
    r.cache->clear();
    return true;
  }
  void show(std::ostream& to) const override { to << "clear"; }
};
struct refresh : alike<refresh> {
  int key = *rc::gen::inRange(0, keys);
  bool on(model& m) const {
    m.load(key);
    return true;
  }
  bool on(real& r) const {
    r.cache->refresh(key);
    return true;
  }
  void show(std::ostream& to) const override { to << "refresh " << key; }
};
struct advance : alike<advance> {
  int units = *rc::gen::inRange(1, 12);
  bool on(model& m) const {
    m.now += units;
    return true;
  }
  bool on(real& r) const {
    r.time.advance(units * unit);
    return true;
  }
  void show(std::ostream& to) const override { to << "advance " << units; }
};
struct set_backend : alike<set_backend> {
  int to_be = *rc::gen::inRange(0, 3);
  bool on(model& m) const {
    m.backend = to_be;
    return true;
  }
  bool on(real& r) const {
    r.backend = to_be;
    return true;
  }
  void show(std::ostream& to) const override { to << "backend " << to_be; }
};

// Goal    Whatever is called in whatever order, and whatever time passes, the cache returns the
//         same results as the map (fresh, stale, absent or an error), makes the same loads, and
//         stores no more entries.
// Method  Random sequences, with and without each of the options.
RC_GTEST_PROP(loading_cache_model, agrees_with_a_map,
              (const bool stales, const bool errors, const bool absences)) {
  model m;
  m.stales = stales;
  m.errors = errors;
  m.absences = absences;
  real r(m);
  rc::state::check(m, r,
                   rc::state::gen::execOneOfWithArgs<get, get, get, find, get_all, put, invalidate,
                                                     invalidate_if, clear, refresh, advance,
                                                     advance, set_backend>());
}

}  // namespace
