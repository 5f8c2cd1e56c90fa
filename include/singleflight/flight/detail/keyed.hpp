// SPDX-License-Identifier: Apache-2.0
#pragma once

// keyed: nodes and blocks with keys, which group<Key, Value> puts into the table.

#include <cstddef>
#include <cstring>
#include <exception>
#include <memory>
#include <type_traits>
#include <utility>
#include <variant>

#include "singleflight/core/support/conversion.hpp"
#include "singleflight/flight/detail/flight_core.hpp"
#include "singleflight/flight/detail/key_access.hpp"
#include "singleflight/flight/detail/owned_load.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

template <class Stored>
struct keyed_node : flight_node {
  Stored key{};
};

/// A block with a key and a node of its own, for a flight that may change its leader. If the view
/// of the key is plain bytes (a string), the bytes are stored right behind the block, without a
/// second allocation.
template <class V, class Key, class Access>
struct keyed_block : flight_block<V> {
  static constexpr bool as_bytes = Access::bytes_suffice();
  /// The key is made from the view within a constructor: g++ 12 fails with an internal error if the
  /// result of a function initializes a member that may share its address, for keys such as a
  /// std::variant.
  struct owned_key {
    explicit owned_key(typename Access::view from) : value(Access::own(from)) {}
    const Key value;
  };
  struct no_key {
    explicit no_key(typename Access::view) noexcept {}
  };
  using kept_key = std::conditional_t<as_bytes, no_key, owned_key>;

  SINGLEFLIGHT_INLINE keyed_block(flight_core& group, flight_phase phase, std::size_t hash,
                                  typename Access::view from, void* key_room)
      : flight_block<V>(group, group.options().executor, group.clock(), phase), key(from) {
    own.hash = hash;
    own.id = next_flight_id(this_thread());
    if constexpr (as_bytes) {
      using element = typename Access::stored::value_type;
      auto* const to = static_cast<std::remove_cv_t<element>*>(key_room);
      if (!from.empty()) std::memcpy(to, from.data(), from.size() * sizeof(element));
      own.key = typename Access::stored(to, from.size());
    } else {
      own.key = Access::store(key.value);
    }
    this->own_node = &own;
  }

  [[no_unique_address]] const kept_key key;
  keyed_node<typename Access::stored> own;
};

/// The block that start() makes: block, load and key in one allocation. Its type does not depend on
/// the loader.
template <class V, class Key, class Access>
struct started_block final : keyed_block<V, Key, Access> {
  using keyed_block<V, Key, Access>::keyed_block;
  ~started_block() override {
    if (owned == nullptr) return;
    if (this->load == owned) this->load = nullptr;  // it is destroyed before the base reads it
    owned->destroy();
  }

  load_base* owned = nullptr;  ///< right behind this block
};

/// Makes a `Block` with `room` bytes behind it, followed by the bytes of `key` if it is stored as
/// bytes; `make(memory, key_room)` constructs it.
template <class Block, class Access, class Make>
SINGLEFLIGHT_INLINE std::unique_ptr<Block> make_with_key(typename Access::view key, Make&& make,
                                                         std::size_t room = 0) {
  std::size_t bytes = room;
  if constexpr (Access::bytes_suffice()) bytes += key.size() * sizeof(*key.data());
  void* const memory = platform::allocate(sizeof(Block) + bytes, alignof(Block));
  try {
    return std::unique_ptr<Block>(
        make(memory, static_cast<std::byte*>(memory) + sizeof(Block) + room));
  } catch (...) {
    platform::deallocate(memory, alignof(Block));
    throw;
  }
}

/// A call's key: a view of the argument if that is free, else a Key converted for the call.
template <class Key, class Access, class Arg, bool Free = Access::template free_view<Arg>>
class key_argument {
 public:
  explicit key_argument(const Arg& arg) : view_(arg) {}
  typename Access::view view() const noexcept { return view_; }
  /// Returns the key itself. Must be called once at most.
  Key own() { return Access::own(view_); }

 private:
  typename Access::view view_;
};
template <class Key, class Access, class Arg>
class key_argument<Key, Access, Arg, false> {
 public:
  explicit key_argument(const Arg& arg) : key_(from(arg)) {}
  typename Access::view view() const noexcept { return Access::load_own(key_); }
  Key own() { return std::move(key_); }

 private:
  static Key from(const Arg& arg) {
    static_assert(converts<const Arg&, Key>,
                  "singleflight: the argument is no key and does not become one without loss: "
                  "convert it where you pass it");
    if constexpr (converts<const Arg&, Key>) {
      return detail::convert<Key>(arg);
    } else {
      std::terminate();
    }
  }

  Key key_;
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
