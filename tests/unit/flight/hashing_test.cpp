// SPDX-License-Identifier: Apache-2.0

// The default hash: spread evenly, whatever the keys, and by a secret that nobody can plan for.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <singleflight/flight/key.hpp>

namespace {

using singleflight::key_hash;
using singleflight::detail::hash_secret;
using singleflight::detail::hash_word;
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

/// How many lines away from its own an entry of `hashes` stands, on average, in the table of a full
/// cache: eleven entries to two lines of seven.
double mean_lines_away(const std::vector<std::uint64_t>& hashes) {
  std::vector<std::size_t> lines(hashes.size() * 2 / 11 + 1);
  for (const std::uint64_t h : hashes) ++lines[(h & 0xffffffffU) * lines.size() >> 32];
  std::size_t passing = 0;
  std::size_t steps = 0;
  for (std::size_t i = 0; i < 2 * lines.size(); ++i) {  // twice round: the first time fills it
    const std::size_t here = lines[i % lines.size()] + passing;
    passing = here > 7 ? here - 7 : 0;
    if (i >= lines.size()) steps += passing;
  }
  return static_cast<double>(steps) / static_cast<double>(hashes.size());
}
/// Hashes of the numbers that differ in `bits` only.
std::vector<std::uint64_t> hashes_of_all(const std::vector<unsigned>& bits, std::uint64_t others,
                                         const hash_secret& secret) {
  for (const unsigned bit : bits) others &= ~(std::uint64_t{1} << bit);
  std::vector<std::uint64_t> hashes;
  for (std::size_t which = 0; which < std::size_t{1} << bits.size(); ++which) {
    std::uint64_t number = others;
    for (std::size_t i = 0; i < bits.size(); ++i) {
      if ((which >> i & 1) != 0) number |= std::uint64_t{1} << bits[i];
    }
    hashes.push_back(hash_word(secret, number));
  }
  return hashes;
}

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
constexpr std::uint64_t secrets = 20;

// Goal    Numbers that count up, in any step, spread over the bits that tables take: by whichever
//         secret.
TEST(hashing, numbers_spread) {
  std::vector<std::uint64_t> steps{3,
                                   5,
                                   7,
                                   10,
                                   60,
                                   100,
                                   1'000,
                                   3'600,
                                   86'400,
                                   1'000'000,
                                   (std::uint64_t{1} << 22) + 1,
                                   (std::uint64_t{1} << 32) + 1,
                                   ~std::uint64_t{0}};
  for (unsigned shift = 0; shift <= 48; shift += 2) steps.push_back(std::uint64_t{1} << shift);
  for (std::uint64_t seed = 1; seed <= secrets; ++seed) {
    const hash_secret secret{seed};
    for (const std::uint64_t step : steps) {
      std::vector<std::uint64_t> hashes;
      for (std::uint64_t i = 0; i < key_count; ++i) hashes.push_back(hash_word(secret, i * step));
      EXPECT_LT(worst_spread(hashes), most_uneven) << "in steps of " << step << ", seed " << seed;
    }
  }
}

// Goal    Numbers with all values in twelve bits, wherever these stand, and others that stay, lie
//         near their places in a cache, on average over secrets: nobody can plan a set that does
//         not.
TEST(hashing, chosen_bits_spread) {
  std::mt19937_64 random{1};
  std::array<unsigned, 64> order{};
  std::iota(order.begin(), order.end(), 0U);
  for (int set = 0; set < 100; ++set) {
    const bool in_a_row = set % 2 != 0;
    std::sort(order.begin(), order.end());
    if (!in_a_row) std::shuffle(order.begin(), order.end(), random);
    const auto first = order.begin() + (in_a_row ? static_cast<std::ptrdiff_t>(random() % 53) : 0);
    const std::vector<unsigned> bits(first, first + 12);
    const std::uint64_t others = random();
    double sum = 0;
    for (std::uint64_t seed = 1; seed <= secrets; ++seed) {
      sum += mean_lines_away(hashes_of_all(bits, others, hash_secret{seed}));
    }
    EXPECT_LT(sum / secrets, 0.5) << "set " << set << ", the first bit is " << bits.front();
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
