// SPDX-License-Identifier: Apache-2.0

// The default hash: it spreads evenly, whatever the keys, and by a secret that makes collisions
// unpredictable.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bitset>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include <singleflight/flight/key.hpp>

namespace {

using singleflight::key_hash;
using singleflight::detail::hash_secret;
using singleflight::detail::hash_word;
using singleflight::detail::multiply;
using singleflight::detail::multiply_by_halves;

constexpr std::size_t table_places = 1024;

/// Pearson's statistic of `hashes` over 1,024 places for each 10 bits that a table uses: the upper
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
constexpr double most_uneven = 1023 + 12 * 45;  // about one run in 10^20 is worse by chance

/// How many lines away from its own an entry of `hashes` is stored, on average, in the table of a
/// full cache: eleven entries to two lines of seven.
double mean_lines_away(const std::vector<std::uint64_t>& hashes) {
  std::vector<std::size_t> lines(hashes.size() * 2 / 11 + 1);
  for (const std::uint64_t h : hashes) ++lines[(h & 0xffffffffU) * lines.size() >> 32];
  std::size_t passing = 0;
  std::size_t steps = 0;
  for (std::size_t i = 0; i < 2 * lines.size(); ++i) {  // two rounds: the first one fills it
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

// Goal    Numbers that count up, in any step, spread over the bits that tables use, with every
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

// Goal    Numbers with all values in twelve bits, wherever these are, and all other bits fixed, are
//         stored near their places in a cache, on average over secrets: no set can be planned that
//         is not.
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
// Goal    The same for 128-bit numbers (addresses, identifiers) that differ in either half alone.
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

// Goal    The same for strings of every length that differ in few characters.
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

// Goal    The same for keys that are made of parts.
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

std::bitset<128> bits_of(std::uint64_t first, std::uint64_t second) {
  return std::bitset<128>(second) << 64 | std::bitset<128>(first);
}
std::vector<bool> list_of(const std::bitset<128>& bits) {
  std::vector<bool> all(bits.size());
  for (std::size_t i = 0; i < bits.size(); ++i) all[i] = bits[i];
  return all;
}

// Goal    The same for bits, floating-point numbers and paths that count up.
TEST(hashing, standard_types_spread) {
  std::vector<std::uint64_t> lists;
  std::vector<std::uint64_t> low;
  std::vector<std::uint64_t> high;
  std::vector<std::uint64_t> small;
  std::vector<std::uint64_t> floats;
  std::vector<std::uint64_t> doubles;
  std::vector<std::uint64_t> halves;
  std::vector<std::uint64_t> long_doubles;
  std::vector<std::uint64_t> powers;
  std::vector<std::uint64_t> paths;
  constexpr int step = std::numeric_limits<long double>::max_exponent / 128;
  for (std::uint64_t i = 0; i < key_count; ++i) {
    lists.push_back(key_hash<std::vector<bool>>{}(list_of(bits_of(i, 0))));
    low.push_back(key_hash<std::bitset<128>>{}(bits_of(i, 0)));
    high.push_back(key_hash<std::bitset<128>>{}(bits_of(0, i)));
    small.push_back(key_hash<std::bitset<20>>{}(i));
    floats.push_back(key_hash<float>{}(static_cast<float>(i)));
    doubles.push_back(key_hash<double>{}(static_cast<double>(i)));
    halves.push_back(key_hash<double>{}(static_cast<double>(i) / 2));
    long_doubles.push_back(key_hash<long double>{}(static_cast<long double>(i)));
    powers.push_back(key_hash<long double>{}(
        std::ldexp(1 + static_cast<long double>(i % 100), static_cast<int>(i / 100) * step)));
    paths.push_back(key_hash<std::filesystem::path>{}(
        std::filesystem::path("/") / std::to_string(i % 100) / std::to_string(i / 100)));
  }
  powers.resize(100 * 120);  // without infinities
  for (const auto* hashes :
       {&lists, &low, &high, &small, &floats, &doubles, &halves, &long_doubles, &powers, &paths}) {
    EXPECT_LT(worst_spread(*hashes), most_uneven);
  }
}

// Goal    Equal numbers have equal hashes, whatever the padding of their bytes contains; numbers
//         that differ in the lowest digit, the exponent or the sign differ, and infinities are
//         numbers.
TEST(hashing, long_doubles) {
  using limits = std::numeric_limits<long double>;
  const key_hash<long double> hash;
  std::set<std::size_t> all;
  const long double values[] = {0,
                                1,
                                -1,
                                1 + limits::epsilon(),
                                1 - limits::epsilon(),
                                2,
                                limits::max(),
                                limits::lowest(),
                                std::nextafter(limits::max(), 0.0L),
                                limits::min(),
                                limits::denorm_min(),
                                2 * limits::denorm_min(),
                                limits::infinity(),
                                -limits::infinity()};
  for (const long double value : values) {
    alignas(long double) unsigned char storage[sizeof(long double)];
    std::memset(storage, 0xa5, sizeof storage);
    auto* const copy = ::new (storage) long double(value);
    EXPECT_EQ(hash(*copy), hash(value));
    all.insert(hash(value));
  }
  EXPECT_EQ(all.size(), std::size(values));
  EXPECT_EQ(hash(-0.0L), hash(0.0L));
  EXPECT_EQ(key_hash<double>{}(-0.0), key_hash<double>{}(0.0));
  EXPECT_EQ(key_hash<float>{}(-0.0F), key_hash<float>{}(0.0F));
}

// Goal    Every single bit counts, and so does the number of bits.
TEST(hashing, bits) {
  std::set<std::size_t> lists;
  for (std::size_t size = 0; size <= 130; ++size) {
    std::vector<bool> all(size);
    lists.insert(key_hash<std::vector<bool>>{}(all));
    for (std::size_t i = 0; i < size; ++i) {
      all[i] = true;
      lists.insert(key_hash<std::vector<bool>>{}(all));
      EXPECT_EQ(key_hash<std::vector<bool>>{}(std::vector<bool>(all)),
                key_hash<std::vector<bool>>{}(all));
      all[i] = false;
    }
  }
  EXPECT_EQ(lists.size(), 131U + 130U * 131U / 2);
  std::vector<bool> shrunk(100, true);  // bits behind the end must not count
  shrunk.resize(3);
  EXPECT_EQ(key_hash<std::vector<bool>>{}(shrunk),
            key_hash<std::vector<bool>>{}(std::vector<bool>(3, true)));
}

#if defined(__GLIBCXX__) && defined(__LP64__)
/// Two words whose hash as bytes by libstdc++ (Austin Appleby's MurmurHash64A with a publicly known
/// seed) is the same for every `first`: the inverse of its steps.
std::pair<std::uint64_t, std::uint64_t> colliding_words(std::uint64_t first) {
  constexpr std::uint64_t factor = 0xc6a4a7935bd1e995U;
  std::uint64_t inverse = factor;
  for (int i = 0; i < 6; ++i) inverse *= 2 - factor * inverse;
  const auto shifted = [](std::uint64_t word) { return word ^ (word >> 47); };
  const std::uint64_t state =
      (std::uint64_t{0xc70f6907U} ^ 16 * factor ^ shifted(first * factor) * factor) * factor;
  constexpr std::uint64_t end = 42;
  return {first, shifted((state ^ end) * inverse) * inverse};
}

// Goal    Keys of the standard library that were chosen to collide by std::hash do not collide, nor
//         do keys that have them as parts (scenario 58).
// Oracle  std::hash confirms that they collide there.
TEST(hashing, collisions_of_std_hash_are_none) {
  using std::filesystem::path;
  std::set<std::size_t> by_std[3];
  std::set<std::size_t> seen[6];
  std::mt19937_64 random{1};
  constexpr std::size_t count = 1000;
  std::size_t paths = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const auto [first, second] = colliding_words(random());
    const std::bitset<128> bits = bits_of(first, second);
    const std::vector<bool> list = list_of(bits);
    by_std[0].insert(std::hash<std::bitset<128>>{}(bits));
    by_std[1].insert(std::hash<std::vector<bool>>{}(list));
    seen[0].insert(key_hash<std::bitset<128>>{}(bits));
    seen[1].insert(key_hash<std::vector<bool>>{}(list));
    seen[2].insert(key_hash<std::pair<std::vector<bool>, int>>{}({list, 1}));
    seen[3].insert(key_hash<std::vector<std::bitset<128>>>{}(std::vector{bits}));
    const std::string text = two_words(first, second);
    if (text.find('/') != text.npos) continue;  // then it is a path of two names
    ++paths;
    by_std[2].insert(std::filesystem::hash_value(path(text)));
    seen[4].insert(key_hash<path>{}(text));
    seen[5].insert(key_hash<std::tuple<int, path>>{}({1, text}));
  }
  for (const auto& hashes : by_std) EXPECT_EQ(hashes.size(), 1U);
  for (const auto which : {0, 1, 2, 3}) EXPECT_EQ(seen[which].size(), count) << which;
  for (const auto which : {4, 5}) EXPECT_EQ(seen[which].size(), paths) << which;
}
#endif

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

// Goal    With another secret the hash differs: keys that collide in one process do not in the
//         next.
TEST(hashing, the_secret_decides) {
  const hash_secret one{1};
  const hash_secret two{2};
  std::size_t same[5]{};
  const auto compare = [&](std::size_t& count, const auto& hash) {
    if ((hash(one) ^ hash(two)) >> 54 == 0) ++count;
  };
  for (std::uint64_t i = 0; i < 1000; ++i) {
    const std::string key = std::to_string(i);
    const std::bitset<128> bits = bits_of(i, i);
    const auto number = static_cast<double>(i + 1);
    using namespace singleflight::detail;
    compare(same[0], [&](const hash_secret& with) { return hash_with(with, key); });
    compare(same[1], [&](const hash_secret& with) { return hash_bits(with, bits, 128); });
    compare(same[2], [&](const hash_secret& with) { return hash_float(with, number); });
    compare(same[3], [&](const hash_secret& with) {
      return hash_float(with, static_cast<long double>(number));
    });
    compare(same[4],
            [&](const hash_secret& with) { return hash_path(with, std::string_view(key), '/'); });
  }
  for (const std::size_t count : same) EXPECT_LT(count, 20U);  // about one is expected
}

// Goal    The secret is drawn once, by whichever thread is first, and stays the same.
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

// Goal    The product without a 128-bit type has the same result.
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
