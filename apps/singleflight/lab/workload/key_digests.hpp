// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace singleflight::lab {

/// key_digests: numbers distinct keys in the order in which they come, without storing them.
///
/// Two keys with the same hash of 64 bits are one: among a hundred million keys there is such a
/// pair in one of 3,700 logs.
///
/// Cost        of a look-up one read of memory that is far away; 16 to 32 bytes per key, and half
///             as much again while it grows.
class key_digests {
 public:
  struct numbered {
    std::uint32_t index;
    bool is_new;
  };
  numbered index_of(std::string_view key);
  std::uint32_t size() const { return size_; }

 private:
  struct slot {
    std::uint32_t hash_high = 0;
    std::uint32_t hash_low = 0;
    std::uint32_t number = 0;  // from 1; 0: unused
  };

  static std::size_t place_of(const slot& each, std::size_t mask) {
    return (std::uint64_t{each.hash_high} << 32U | each.hash_low) & mask;
  }
  void grow();

  std::vector<slot> slots_;  // a power of two of them; a key is in the first one from its hash on
                             // that was unused when it came
  std::uint32_t size_ = 0;
};

}  // namespace singleflight::lab
