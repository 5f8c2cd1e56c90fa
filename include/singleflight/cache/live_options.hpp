// SPDX-License-Identifier: Apache-2.0
#pragma once

/// live_options, live_stats: options and statistics of a live_value.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <type_traits>
#include <utility>

#include "singleflight/core/support/conversion.hpp"
#include "singleflight/core/support/random.hpp"
#include "singleflight/flight/group_options.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

namespace detail {

/// A std::optional<T> that is made only of what converts to one without loss.
template <class T>
class whole_optional : public std::optional<T> {
  using base = std::optional<T>;
  template <class From>
  static constexpr bool takes = !std::is_same_v<std::remove_cvref_t<From>, whole_optional> &&
                                (std::is_convertible_v<From, base> || converts<From, base>);

 public:
  whole_optional() = default;
  template <class From = T>
    requires takes<From>
  whole_optional(From&& from)  // NOLINT(google-explicit-constructor)
      : base(detail::value_from<base>(std::forward<From>(from))) {}
  /// Also from a braced list that makes a T; `{}` makes it empty.
  template <class From = T>
    requires(takes<From> && !std::is_scalar_v<T>)
  whole_optional& operator=(From&& from) {
    *this = whole_optional(std::forward<From>(from));
    return *this;
  }
};

}  // namespace detail

template <class T>
struct live_options {
  /// The first version, instead of a first load: a T, what converts to one without loss, or an
  /// optional of these.
  detail::whole_optional<T> initial{};
  /// A load is scheduled this long after the last scheduled one has ended, or after the value was
  /// made; if zero, there are no scheduled loads.
  std::chrono::nanoseconds reload_every{0};
  /// Each wait is shortened by a random fraction of it, at most this one, so that processes that
  /// started together do not load together. In [0, 1].
  double jitter = 0.1;
  /// The wait after a scheduled load that failed; twice as long with each consecutive failure, up
  /// to reload_every. Positive.
  std::chrono::nanoseconds retry_after = std::chrono::seconds(1);
  /// Called for each scheduled load that failed, on the executor, with no lock held. It must not
  /// throw. If empty, nothing is called.
  std::function<void(const std::exception_ptr& error)> on_error{};
  /// How many changes may be queued for the listeners, at least one: each keeps a version alive.
  /// When listeners fall behind by more, the last of these and the next one are merged into one
  /// change: from the version before both to the newer one. The latest version is always delivered.
  std::size_t max_changes = 64;
  /// The options of the group that loads: its executor, where listeners are called too, its timer,
  /// load_timeout, observer. Its on_abandon is always finish.
  group_options group{};
  /// 64 random bits, drawn once per wait, for the jitter; if empty, or if it throws, they come from
  /// a generator of the calling thread.
  detail::random_source random{};
};

/// Totals since the value was made; exact when no call is in progress.
struct live_stats {
  std::uint64_t version = 0;  ///< of the current value
  std::uint64_t loads = 0;    ///< loads that began
  std::uint64_t load_failures = 0;
  std::uint64_t not_stored = 0;  ///< answers that a set, or a later load, had overtaken
  /// Changes that were merged with the next one (max_changes).
  std::uint64_t changes_merged = 0;
  /// Since the value was last loaded or set, changed or not.
  std::chrono::nanoseconds since_success{0};

  /// Calls visit(name, value) for each counter.
  template <class Visit>
  void each(const Visit& visit) const {
    visit("loads", loads);
    visit("load_failures", load_failures);
    visit("not_stored", not_stored);
    visit("changes_merged", changes_merged);
  }
};

SINGLEFLIGHT_END_NAMESPACE
