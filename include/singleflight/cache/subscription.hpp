// SPDX-License-Identifier: Apache-2.0
#pragma once

/// subscription: a listener is called for as long as this object exists.
///
/// Use when    never by name: live_value::on_change returns one, to be kept.
/// Threads     one thread at a time; it may be passed to another thread, and ended within its own
///             listener.
/// Blocking    ending it waits for its listener, if that is running on another thread.
/// Lifetime    the listener is not called after the end has returned, and has been destroyed at
///             that point; if the subscription ends within its own listener: when that returns. It
///             may outlive the value.

#include <memory>
#include <utility>

#include "singleflight/cache/detail/live_listeners.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

namespace detail {
struct live_door;
}

class [[nodiscard]] subscription {
 public:
  /// Subscribes to nothing.
  subscription() noexcept = default;
  subscription(subscription&&) noexcept = default;
  subscription& operator=(subscription&& other) noexcept {
    if (this != &other) {
      end();
      listeners_ = std::move(other.listeners_);
      listener_ = other.listener_;
    }
    return *this;
  }
  ~subscription() { end(); }

  /// Ends the subscription before its destructor does.
  void end() noexcept {
    if (const auto listeners = std::exchange(listeners_, nullptr)) listeners->remove(*listener_);
  }
  explicit operator bool() const noexcept { return listeners_ != nullptr; }

 private:
  friend detail::live_door;
  subscription(std::shared_ptr<detail::live_listeners> listeners,
               std::unique_ptr<detail::live_listeners::listener> listener) noexcept
      : listeners_(std::move(listeners)), listener_(listener.release()) {
    listeners_->add(*listener_);
  }

  std::shared_ptr<detail::live_listeners> listeners_;
  detail::live_listeners::listener* listener_ = nullptr;
};

SINGLEFLIGHT_END_NAMESPACE
