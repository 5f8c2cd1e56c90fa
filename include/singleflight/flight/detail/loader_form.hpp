// SPDX-License-Identifier: Apache-2.0
#pragma once

// loader_form: the parameters of a loader, how it is called, and how a blocking call lends one.

#include <cstddef>
#include <functional>
#include <memory>
#include <type_traits>
#include <utility>
#include <variant>

#include "singleflight/core/support/conversion.hpp"
#include "singleflight/core/support/require.hpp"
#include "singleflight/core/support/stop_token.hpp"
#include "singleflight/flight/context.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

template <class V>
class flight_promise;

namespace detail {

enum class loader_form { nothing, context, stop, promise, unfit };

template <class V, class Fn>
consteval loader_form form_of() {
  if constexpr (std::is_invocable_v<Fn&>) {
    return loader_form::nothing;
  } else if constexpr (std::is_invocable_v<Fn&, flight_context&>) {
    return loader_form::context;
  } else if constexpr (std::is_invocable_v<Fn&, std::stop_token>) {
    return loader_form::stop;
  } else if constexpr (std::is_invocable_v<Fn&, flight_promise<V>>) {
    return loader_form::promise;
  } else {
    return loader_form::unfit;
  }
}

/// Calls a loader that answers with its return value.
template <class V, class Fn>
decltype(auto) call_loader(Fn& fn, const flight_context& context) {
  constexpr loader_form form = form_of<V, Fn>();
  static_assert(
      form != loader_form::unfit && form != loader_form::promise,
      "singleflight: a loader takes nothing, a flight_context&, a std::stop_token, or (for start, "
      "but not for run) a flight_promise<Value>");
  if constexpr (form == loader_form::nothing) {
    return std::invoke(fn);
  } else if constexpr (form == loader_form::context) {
    return std::invoke(fn, const_cast<flight_context&>(context));
  } else if constexpr (form == loader_form::stop) {
    return std::invoke(fn, context.stop_token());
  } else {
    return detail::never<V>();
  }
}

/// Calls a loader that answers with its return value, and constructs that at `at`.
template <class V, class Fn>
void make_value_of(void* at, Fn& fn, const flight_context& context) {
  if constexpr (std::is_void_v<V>) {
    detail::call_loader<V>(fn, context);
    ::new (at) std::monostate();
  } else {
    const auto call = [&]() -> decltype(auto) { return detail::call_loader<V>(fn, context); };
    detail::construct_from_call<V>(at, call);
  }
}

/// The loader of a blocking call, by address and without its type. So only the call of the loader
/// is compiled for each loader; entering, waiting and leading are compiled once.
class lent_loader {
 public:
  template <class V, class Fn>
  static lent_loader of(Fn& fn) noexcept {
    if constexpr (std::is_function_v<Fn>) {
      return {reinterpret_cast<void*>(&fn), &make<V, Fn>};
    } else {
      return {const_cast<void*>(static_cast<const void*>(std::addressof(fn))), &make<V, Fn>};
    }
  }
  /// Calls the loader and constructs its return value at `at`.
  void operator()(void* at, const flight_context& context) const { make_(loader_, at, context); }

 private:
  using maker = void (*)(void* loader, void* at, const flight_context& context);
  lent_loader(void* loader, maker how) noexcept : loader_(loader), make_(how) {}

  template <class V, class Fn>
  static void make(void* loader, void* at, const flight_context& context) {
    if constexpr (std::is_function_v<Fn>) {
      make_value_of<V>(at, *reinterpret_cast<Fn*>(loader), context);
    } else {
      make_value_of<V>(at, *static_cast<Fn*>(loader), context);
    }
  }

  void* loader_;
  maker make_;
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
