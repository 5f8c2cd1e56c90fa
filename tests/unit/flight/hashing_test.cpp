// SPDX-License-Identifier: Apache-2.0

// The default hash: spread evenly, whatever the keys, and by a secret that nobody can plan for.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <singleflight/flight/key.hpp>

namespace {

using singleflight::key_hash;
using singleflight::detail::hash_secret;
using singleflight::detail::multiply;
using singleflight::detail::multiply_by_halves;

constexpr std::size_t table_places = 1024;

/// Pearson's statistic of `hashes` over 1,024 places by each 10 bits that a table takes: the upper
/// ones (flights), and the upper and the lower ones of the lower half (a cache's lines and tags).
/// 1,023 is expected, with a deviation of 45.
double worst_spread(const std::vector<std::uint64_t>& hashes) {
  double worst = 0;
  for (const unsigned shift : {54U, 22U, 0U}) {
    std::array<double, table_places> found{};
    for (const std::uint64_t h : hashes) ++found[h >> shift & (table_places - 1)];
    const double expected = static_cast<double>(hashes.size()) / table_places;
    double sum = 0;
    for (const double n : found) sum += (n - expected) * (n - expected) / expected;
    worst = std::max(worst, sum);
  }
  return worst;
}
constexpr double most_uneven = 1023 + 12 * 45;  // a run in 10^20 or so is worse by chance

std::string two_words(std::uint64_t first, std::uint64_t second) {
  std::string key(16, '\0');
  std::memcpy(key.data(), &first, 8);
  std::memcpy(key.data() + 8, &second, 8);
  return key;
}
std::uint64_t hash_with(const hash_secret& secret, const std::string& key) {
  return singleflight::detail::hash_bytes(secret, key.data(), key.size());
}

constexpr std::uint64_t key_count = 20'000;

// Goal    Numbers that count up, in any step, spread over the bits that tables take.
TEST(hashing, numbers_spread) {
  for (unsigned shift = 0; shift < 48; shift += 4) {
    std::vector<std::uint64_t> hashes;
    for (std::uint64_t i = 0; i < key_count; ++i) {
      hashes.push_back(key_hash<std::uint64_t>{}(i << shift));
    }
    EXPECT_LT(worst_spread(hashes), most_uneven) << "in steps of 1 << " << shift;
  }
}

#if defined(__SIZEOF_INT128__)
// Goal    So do numbers of 128 bits (addresses, identifiers) that differ in either half alone.
TEST(hashing, wide_numbers_spread) {
  __extension__ using wide = unsigned __int128;
  for (const unsigned shift : {0U, 32U, 64U, 96U}) {
    std::vector<std::uint64_t> hashes;
    for (std::uint64_t i = 0; i < key_count; ++i) {
      hashes.push_back(key_hash<wide>{}(static_cast<wide>(i) << shift));
    }
    EXPECT_LT(worst_spread(hashes), most_uneven) << "in steps of 1 << " << shift;
  }
}
#endif

// Goal    So do strings of every length that differ in few characters.
TEST(hashing, strings_spread) {
  for (const std::size_t size : {5U, 8U, 12U, 16U, 17U, 33U, 100U}) {
    std::vector<std::uint64_t> hashes;
    for (std::uint64_t i = 0; i < key_count; ++i) {
      const std::string number = std::to_string(i);
      std::string key(size, '0');
      key.replace(size - number.size(), number.size(), number);
      hashes.push_back(key_hash<std::string>{}(key));
    }
    EXPECT_LT(worst_spread(hashes), most_uneven) << size << " bytes";
  }
}

// Goal    And what is put together of parts.
TEST(hashing, parts_spread) {
  std::vector<std::uint64_t> pairs;
  std::vector<std::uint64_t> lists;
  for (int i = 0; i < static_cast<int>(key_count); ++i) {
    pairs.push_back(key_hash<std::pair<int, int>>{}({i % 100, i / 100}));
    lists.push_back(key_hash<std::vector<std::string>>{}(
        std::vector<std::string>{std::to_string(i % 100), std::to_string(i / 100)}));
  }
  EXPECT_LT(worst_spread(pairs), most_uneven);
  EXPECT_LT(worst_spread(lists), most_uneven);
}

// Goal    Keys that were chosen to make a factor 0 under constants that were once in this header,
//         or under a secret of zeroes, do not collide (scenario 58).
TEST(hashing, chosen_keys_do_not_collapse) {
  const hash_secret secret{0x0123456789abcdefU};
  const std::uint64_t constants[] = {0x9e3779b97f4a7c15U, 0xd6e8feb86659fd93U, 0xa0761d6478bd642fU,
                                     0};
  for (const std::uint64_t chosen : constants) {
    std::set<std::uint64_t> first;
    std::set<std::uint64_t> second;
    std::set<std::uint64_t> behind;
    std::set<std::uint64_t> parts;
    std::vector<std::uint64_t> spread;
    for (std::uint64_t i = 0; i < key_count; ++i) {
      first.insert(hash_with(secret, two_words(chosen, i)));
      second.insert(hash_with(secret, two_words(i, chosen)));
      behind.insert(hash_with(secret, two_words(i, i) + two_words(chosen, 0)));
      parts.insert(singleflight::detail::hash_part(secret, i, chosen));
      spread.push_back(key_hash<std::string>{}(two_words(chosen, i)));
    }
    EXPECT_EQ(first.size(), key_count) << chosen;
    EXPECT_EQ(second.size(), key_count) << chosen;
    EXPECT_EQ(behind.size(), key_count) << chosen;
    EXPECT_EQ(parts.size(), key_count) << chosen;
    EXPECT_LT(worst_spread(spread), most_uneven) << chosen;
  }
}

// Goal    Another secret, another hash: keys that collide in one process do not in the next.
TEST(hashing, the_secret_decides) {
  const hash_secret one{1};
  const hash_secret two{2};
  std::size_t same = 0;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    const std::string key = std::to_string(i);
    if ((hash_with(one, key) ^ hash_with(two, key)) >> 54 == 0) ++same;
  }
  EXPECT_LT(same, 20U);  // about one is expected
}

// Goal    The secret is drawn once, by whichever thread comes first, and stays.
TEST(hashing, a_secret_is_drawn_once) {
  hash_secret secret{0};
  std::array<std::uint64_t, 4> seen{};
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < seen.size(); ++i) {
    threads.emplace_back([&, i] {
      secret.draw([i] { return 2 * i + 2; });
      seen[i] = hash_with(secret, "key");
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(std::set<std::uint64_t>(seen.begin(), seen.end()).size(), 1U);
  EXPECT_EQ(key_hash<std::string>{}("key"), key_hash<std::string>{}("key"));
}

// Goal    The product without a 128-bit type is the same.
TEST(hashing, product_by_halves) {
  std::uint64_t a = 1;
  std::uint64_t b = ~std::uint64_t{0};
  for (int i = 0; i < 1000; ++i) {
    EXPECT_EQ(multiply(a, b).low, multiply_by_halves(a, b).low);
    EXPECT_EQ(multiply(a, b).high, multiply_by_halves(a, b).high);
    a = a * 0x9e3779b97f4a7c15U + 1;
    b = (b ^ a) * 0xd6e8feb86659fd93U;
  }
}

}  // namespace
