// SPDX-License-Identifier: Apache-2.0
#pragma once

// call_ref: a type-erased reference to a callable, for a parameter that is called before the
// function returns, so that the function is compiled once for all callables. (std::function_ref of
// C++26, P0792.)

#include <memory>
#include <type_traits>
#include <utility>

#include "singleflight/core/support/config.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

template <class Signature>
class call_ref;

template <class Result, class... Args>
class call_ref<Result(Args...)> {
 public:
  template <class Fn>
    requires(!std::is_same_v<std::remove_cv_t<Fn>, call_ref>)
  call_ref(Fn& fn) noexcept  // NOLINT(google-explicit-constructor): a parameter's type
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(fn)))),
        call_([](void* object, Args... args) -> Result {
          return (*static_cast<Fn*>(object))(std::forward<Args>(args)...);
        }) {}

  Result operator()(Args... args) const { return call_(object_, std::forward<Args>(args)...); }

 private:
  void* object_;
  Result (*call_)(void*, Args...);
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
