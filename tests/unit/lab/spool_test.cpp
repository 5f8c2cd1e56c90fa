// SPDX-License-Identifier: Apache-2.0
#include "lab/hit_ratio/spool.hpp"

#include <gtest/gtest.h>

#include <cstdint>

namespace singleflight::lab {
namespace {

using cursor = spool<std::uint32_t>::cursor;

void expect_both_ways(std::uint32_t size) {
  spool<std::uint32_t> numbers;
  for (std::uint32_t i = 0; i < size; ++i) numbers.append(i * 3);
  ASSERT_EQ(numbers.size(), size);
  cursor forwards(numbers);
  std::uint32_t wrong = 0;
  for (std::uint32_t i = 0; i < size; ++i) wrong += forwards.next() != i * 3 ? 1U : 0U;
  cursor backwards(numbers, cursor::direction::backwards);
  for (std::uint32_t i = size; i-- > 0;) wrong += backwards.next() != i * 3 ? 1U : 0U;
  EXPECT_EQ(wrong, 0U) << size;
}

// Goal    The numbers come back in either order: none, less and more than a block, exact blocks,
//         and so many that all but the last are in a file, once and twice.
TEST(spool, both_ways) {
  constexpr std::uint32_t block = 1U << 16U;
  constexpr std::uint32_t in_memory = 16 * block;
  for (const std::uint32_t size :
       {0U, 1U, 1000U, block - 1, block, block + 1, 2 * block, in_memory, in_memory + 1,
        in_memory + block, 2 * in_memory + 3 * block + 17}) {
    expect_both_ways(size);
  }
}

}  // namespace
}  // namespace singleflight::lab
