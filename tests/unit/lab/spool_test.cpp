// SPDX-License-Identifier: Apache-2.0
#include "lab/workload/spool.hpp"

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
  if (size > 0) {
    cursor begun(numbers, cursor::direction::backwards);
    begun.next();
    EXPECT_EQ(begun.left(), size - 1);
  }
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

// Goal    Parts are read side by side, forwards, whether they are in the file, in memory, or both.
TEST(spool, parts) {
  constexpr std::uint32_t in_memory = 1U << 20U;
  constexpr std::uint32_t part = 3 * spool<std::uint32_t>::small_block;
  spool<std::uint32_t> numbers;
  for (std::uint32_t i = 0; i < in_memory + part + 1; ++i) numbers.append(i);
  for (const std::uint32_t begin : {0U, part, in_memory - in_memory % part, in_memory}) {
    cursor of_part(numbers, begin, begin + part);
    EXPECT_EQ(of_part.left(), part);
    std::uint32_t wrong = 0;
    for (std::uint32_t i = 0; i < part; ++i) wrong += of_part.next() != begin + i ? 1U : 0U;
    EXPECT_EQ(wrong, 0U) << begin;
    EXPECT_EQ(of_part.left(), 0U);
  }
}

// Goal    A visit sees every value, and ends at the first one that is looked for, or soon after a
//         stop request.
TEST(spool, visits) {
  spool<std::uint32_t> numbers;
  for (std::uint32_t i = 0; i < 200'000; ++i) numbers.append(i);
  std::uint64_t sum = 0;
  visit_all(numbers, {}, [&](std::uint32_t each) { sum += each; });
  EXPECT_EQ(sum, 200'000ULL * 199'999 / 2);
  std::uint32_t seen = 0;
  EXPECT_TRUE(any_in(numbers, {}, [&](std::uint32_t each) {
    ++seen;
    return each == 100;
  }));
  EXPECT_EQ(seen, 101U);
  EXPECT_FALSE(any_in(numbers, {}, [](std::uint32_t each) { return each == 200'000; }));
  std::stop_source source;
  EXPECT_THROW(
      visit_all(numbers, source.get_token(), [&](std::uint32_t) { source.request_stop(); }),
      cli::interrupted);
}

}  // namespace
}  // namespace singleflight::lab
