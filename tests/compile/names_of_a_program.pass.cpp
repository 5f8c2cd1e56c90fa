// SPDX-License-Identifier: Apache-2.0
//
// A program's functions may have the same names as the library's: no call within the headers looks
// them up in the namespace of a key or a value.
#include <concepts>
#include <coroutine>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

#include <singleflight/cache.hpp>
#include <singleflight/sync.hpp>

namespace program {

/// A result that no call within the headers can use.
struct trap {};

// Templates for one to three arguments of any kind, alone and after a type that the call names.
// NOLINTBEGIN(bugprone-macro-parentheses)
#define PROGRAM_HAS(name)               \
  template <class A>                    \
  trap name(A&);                        \
  template <class A>                    \
  trap name(const A&);                  \
  template <class A>                    \
  trap name(A&&);                       \
  template <class A, class B>           \
  trap name(A&, B&);                    \
  template <class A, class B>           \
  trap name(A&&, B&&);                  \
  template <class A, class B, class C>  \
  trap name(A&, B&, C&);                \
  template <class A, class B, class C>  \
  trap name(A&&, B&&, C&&);             \
  template <class To, class A>          \
  trap name(A&);                        \
  template <class To, class A>          \
  trap name(const A&);                  \
  template <class To, class A>          \
  trap name(A&&);                       \
  template <class To, class A, class B> \
  trap name(A&&, B&&);
// NOLINTEND(bugprone-macro-parentheses)

PROGRAM_HAS(argument_of)
PROGRAM_HAS(as_loaded)
PROGRAM_HAS(as_whole)
PROGRAM_HAS(at_safe_point)
PROGRAM_HAS(base_in)
PROGRAM_HAS(batch_for)
PROGRAM_HAS(call_argument)
PROGRAM_HAS(call_attempt)
PROGRAM_HAS(call_loader)
PROGRAM_HAS(call_task)
PROGRAM_HAS(call_with_key)
PROGRAM_HAS(cancel_wait)
PROGRAM_HAS(code_of)
PROGRAM_HAS(construct_from_call)
PROGRAM_HAS(construct_of)
PROGRAM_HAS(convert)
PROGRAM_HAS(convert_duration)
PROGRAM_HAS(convert_number)
PROGRAM_HAS(convert_other)
PROGRAM_HAS(ends_elsewhere)
PROGRAM_HAS(errc_of)
PROGRAM_HAS(errors_of)
PROGRAM_HAS(expired)
PROGRAM_HAS(get_awaiter)
PROGRAM_HAS(hash_elements)
PROGRAM_HAS(hash_part)
PROGRAM_HAS(hash_word)
PROGRAM_HAS(invoke_whole)
PROGRAM_HAS(keep_alive)
PROGRAM_HAS(make_group_task)
PROGRAM_HAS(make_loader)
PROGRAM_HAS(make_room)
PROGRAM_HAS(make_with_key)
PROGRAM_HAS(own_handle)
PROGRAM_HAS(own_key)
PROGRAM_HAS(part_fit)
PROGRAM_HAS(parts_in)
PROGRAM_HAS(post_on_default_pool)
PROGRAM_HAS(protect)
PROGRAM_HAS(read_word)
PROGRAM_HAS(release)
PROGRAM_HAS(require)
PROGRAM_HAS(retry_outcomes)
PROGRAM_HAS(same_bytes)
PROGRAM_HAS(settled)
PROGRAM_HAS(take_out)
PROGRAM_HAS(target_of)
PROGRAM_HAS(token_of)
PROGRAM_HAS(value_from)
PROGRAM_HAS(waiting_room)
#undef PROGRAM_HAS

struct money {
  money() = default;
  money(long from) : cents(from) {}  // NOLINT(google-explicit-constructor)
  bool operator==(const money&) const = default;
  long cents = 0;
};
struct hash {
  std::size_t operator()(const money& m) const { return static_cast<std::size_t>(m.cents); }
  std::size_t operator()(const std::tuple<money, int>& m) const { return (*this)(std::get<0>(m)); }
};
/// Awaited at once.
struct later {
  bool await_ready() const noexcept { return true; }
  void await_suspend(std::coroutine_handle<>) const noexcept {}
  money await_resume() const { return 1; }
};

using answers = std::vector<singleflight::outcome<money>>;
answers load_all(std::span<const money> keys) { return {keys.begin(), keys.end()}; }
money load_one(const money& key) { return key; }

}  // namespace program

using program::load_all;
using program::load_one;
using program::money;

void loads() {
  singleflight::group<money, money, program::hash> loads;
  (void)loads.run(money(1), [] { return money(2); });
  (void)loads.run(3L, [] { return 4L; });
  (void)loads.run_fresh(money(1), [](std::stop_token) { return money(2); });
  (void)loads.start(money(1), [](singleflight::flight_context&) { return money(2); }).get();
  (void)loads.start(5L, [](singleflight::flight_promise<money> p) { p.set_value(7L); }).get();
  (void)loads.start(6L, [] { return program::later(); }).get();
  loads.start(money(1), [] { return money(2); })
      .on_ready([](singleflight::outcome<singleflight::shared_result<money>>) {});
  (void)loads.run_many(std::vector<money>{1, 2}, load_all);
  (void)loads.start_many(std::vector<money>{1, 2}, load_all);
  (void)loads.forget(money(1));
  singleflight::group<std::tuple<money, int>, std::optional<money>, program::hash> pairs;
  (void)pairs.run(std::pair(money(1), 2), [] { return money(3); });
  const auto shared = singleflight::deduplicate(
      load_one, [](const money& m) { return std::pair(std::optional(m.cents), 1); });
  (void)shared(1L);
}

void caches() {
  singleflight::loading_cache<money, money, program::hash> cache(
      load_one, load_all, {.weigher = [](const money&, const money&) { return 1; }});
  (void)cache.get(money(1));
  (void)cache.start_get(2L).get();
  (void)cache.find(money(1));
  (void)cache.get_all(std::vector<money>{1, 2});
  cache.put(money(2), 3L);
  (void)cache.invalidate(money(1));
  (void)cache.invalidate_if([](const money&) { return true; });
  cache.clear();
  singleflight::loading_cache<money, money, program::hash> awaiting(
      [](const money&) { return program::later(); });
  (void)awaiting.start_get(money(1)).get();
  singleflight::live_value<money> value(std::function<money()>([] { return money(1); }));
  value.set(money(2));
  const auto subscribed = value.on_change([](const money&, const money&) {});
  (void)value.get();
  const auto kept = singleflight::memoize(load_one, {}, program::hash());
  (void)kept(money(1));
  const auto two =
      singleflight::memoize([](const money& m, int) { return m; }, {}, program::hash());
  (void)two(1L, 2);
  (void)two.forget(1L, 2);
}

void guards() {
  singleflight::batcher<money, money, program::hash> batches(load_all);
  (void)batches.load(money(1));
  (void)batches.load_many(std::vector<money>{1, 2});
  const std::vector<std::function<money()>> tasks{[] { return money(1); }};
  (void)singleflight::run_all(tasks);
  (void)singleflight::collect<money>(tasks);
  (void)singleflight::retry({}, [] { return singleflight::outcome<money>(money(1)); });
  (void)singleflight::start_retry({}, [] { return program::later(); }).get();
  singleflight::circuit_breaker breaker;
  (void)breaker.call([] { return money(1); }, [] { return 2L; });
}
