// SPDX-License-Identifier: Apache-2.0

// Keys of every kind in a cache: those that are stored as bytes, and those that are stored as
// objects.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bitset>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <singleflight/cache.hpp>

namespace {

using namespace std::chrono_literals;
using singleflight::cache_options;
using singleflight::loading_cache;
using singleflight::removal_cause;
using testing::ElementsAre;

/// Loads each of `keys` once, finds it again, and removes it.
template <class Key>
void check_kind(const std::vector<Key>& keys, cache_options<Key, std::size_t> how = {}) {
  std::size_t n = 0;
  loading_cache<Key, std::size_t> cache([&](const Key&) { return n++; }, std::move(how));
  for (std::size_t i = 0; i < keys.size(); ++i) EXPECT_EQ(*cache.get(keys[i]), i);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    EXPECT_EQ(*cache.get(Key(keys[i])), i);
    ASSERT_TRUE(cache.find(keys[i])) << i;
  }
  EXPECT_EQ(n, keys.size());
  for (const Key& key : keys) EXPECT_TRUE(cache.invalidate(key));
  EXPECT_EQ(cache.stats().entries, 0U);
}

std::vector<std::string> texts() {
  std::vector<std::string> all;
  for (std::size_t size = 0; size < 70; ++size) {  // two of each size, which differ at their end
    all.emplace_back(size, 'a');
    if (size > 0) all.push_back(std::string(size - 1, 'a') + 'b');
  }
  return all;
}

// Goal    Keys that are stored as bytes are found again: strings of all sizes, of wide characters,
//         and vectors of trivial elements, with and without the fields that an option adds to an
//         entry.
TEST(keys, kept_as_bytes) {
  check_kind<std::string>(texts());
  check_kind<std::string>(texts(), {.ttl_of = [](auto&, auto&) { return 1h; }});
  check_kind<std::u32string>({U"", U"a", U"b", U"a longer one", U"a longer onf"});
  check_kind<std::vector<double>>({{}, {1.5}, {1.5, 2.5}, {2.5, 1.5}});
  check_kind<std::vector<std::uint16_t>>({{}, {1}, {2}, {1, 2, 3, 4, 5}, {1, 2, 3, 4, 6}});
}

// Goal    Keys that are not trivial are stored as objects.
TEST(keys, kept_as_objects) {
  check_kind<int>({1, 2, -1});
  check_kind<std::vector<std::string>>({{}, {"a"}, {"a", "b"}, {"ab"}});
  check_kind<std::filesystem::path>({"", "/", "a", "/a", "a/", "a/b", "a/c"});
  check_kind<std::vector<bool>>({{}, {false}, {true}, {false, false}, std::vector<bool>(65)});
  check_kind<std::bitset<65>>({0, 1, std::bitset<65>(1) << 64});
  check_kind<std::pair<std::filesystem::path, std::bitset<8>>>({{"a", 1}, {"a", 2}, {"b", 1}});
  check_kind<long double>({0, 1, 0.1L, -0.1L});
}

// Goal    A path is one entry, however it is written.
TEST(keys, equal_paths) {
  int loads = 0;
  loading_cache<std::filesystem::path, int> cache(
      [&](const std::filesystem::path&) { return ++loads; });
  EXPECT_EQ(*cache.get("/usr/lib"), 1);
  EXPECT_EQ(*cache.get("//usr///lib"), 1);
  EXPECT_EQ(*cache.get(std::filesystem::path("/usr") / "lib"), 1);
  EXPECT_EQ(*cache.get("/usr/lib/"), 2);
  EXPECT_TRUE(cache.invalidate("/usr//lib"));
  EXPECT_FALSE(cache.find("/usr/lib"));
}

// Goal    A value with a stricter alignment than malloc's is aligned, next to a key that is stored
//         as bytes, and next to the fields that an option adds to an entry.
TEST(keys, aligned_values) {
  struct alignas(128) wide {
    std::size_t n;
  };
  for (const auto& how :
       {cache_options<std::string, wide>{},
        cache_options<std::string, wide>{.ttl_of = [](auto&, auto&) { return 1h; }}}) {
    loading_cache<std::string, wide> cache([](const std::string& k) { return wide{k.size()}; },
                                           how);
    for (const std::string& key : texts()) {
      const auto got = cache.get(key);
      EXPECT_EQ(got->n, key.size());
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(&*got) % alignof(wide), 0U);
    }
  }
}

// Goal    Callbacks get a view of a key that is stored as bytes, and a Key if they take one.
TEST(keys, as_others_see_them) {
  std::vector<std::pair<std::string, removal_cause>> removed;
  loading_cache<std::string, int> cache(
      [](const std::string&) { return 1; },
      {.on_removal = [&](std::string_view key, const int*, removal_cause cause) {
        removed.emplace_back(key, cause);
      }});
  for (const char* key : {"user:1", "user:2", "page:1", "page:2", "a:1", "a:2"}) cache.get(key);
  EXPECT_EQ(cache.invalidate_if([](std::string_view key) { return key == "a:1"; }), 1U);
  EXPECT_EQ(cache.invalidate_if([](const std::string& key) { return key == "a:2"; }), 1U);
  EXPECT_EQ(cache.invalidate_if([](const auto& key) { return key == "user:2"; }), 1U);
  EXPECT_EQ(
      cache.invalidate_if([](const std::string& key, int v) { return key == "page:1" && v == 1; }),
      1U);
  cache.invalidate("user:1");
  EXPECT_THAT(removed, ElementsAre(std::pair("a:1", removal_cause::invalidated),
                                   std::pair("a:2", removal_cause::invalidated),
                                   std::pair("user:2", removal_cause::invalidated),
                                   std::pair("page:1", removal_cause::invalidated),
                                   std::pair("user:1", removal_cause::invalidated)));
  EXPECT_TRUE(cache.find("page:2"));
}

/// Strings that compare without case, by their traits.
struct caseless : std::char_traits<char> {
  static char low(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }
  static bool eq(char a, char b) { return low(a) == low(b); }
  static bool lt(char a, char b) { return low(a) < low(b); }
  static int compare(const char* a, const char* b, std::size_t n) {
    for (; n > 0; --n, ++a, ++b) {
      if (!eq(*a, *b)) return lt(*a, *b) ? -1 : 1;
    }
    return 0;
  }
};
using caseless_string = std::basic_string<char, caseless>;

// Goal    Keys that are equal by their traits are one entry, for an invalidation as well (scenario
//         55).
TEST(keys, traits_of_their_own) {
  int loads = 0;
  loading_cache<caseless_string, int> cache([&](const caseless_string&) { return ++loads; });
  EXPECT_EQ(*cache.get("Example.ORG"), 1);
  EXPECT_EQ(*cache.get("example.org"), 1);
  EXPECT_TRUE(cache.invalidate("EXAMPLE.org"));
  EXPECT_FALSE(cache.find("Example.ORG"));
}

/// Its operator& is for out-parameters.
struct out_value {
  int n = 0;
  int* operator&() { return nullptr; }
  const int* operator&() const { return nullptr; }
  friend bool operator==(const out_value& a, const out_value& b) { return a.n == b.n; }
};
struct out_value_hash {
  std::size_t operator()(const out_value& key) const { return static_cast<std::size_t>(key.n); }
};

// Goal    Keys and values with an overloaded operator& work (scenario 55).
TEST(keys, overloaded_address) {
  int removed = 0;
  loading_cache<out_value, out_value, out_value_hash> cache(
      [](const out_value& k) { return out_value{k.n + 1}; },
      {.on_removal = [&](const out_value&, const out_value* v, removal_cause) { removed = v->n; }});
  EXPECT_EQ(cache.get(out_value{1})->n, 2);
  EXPECT_EQ((*cache.get(out_value{1})).n, 2);
  EXPECT_TRUE(cache.invalidate(out_value{1}));
  EXPECT_EQ(removed, 2);
  singleflight::live_value<out_value> live([] { return out_value{7}; });
  EXPECT_EQ(live.get()->n, 7);
}

// Goal    A key that the key type cannot hold is refused by every member function, and no other
//         key's value is returned or changed (scenario 54).
TEST(keys, keep_their_sign) {
  loading_cache<std::uint64_t, int> cache([](std::uint64_t) { return 1; });
  cache.put(7, 2);
  EXPECT_EQ(*cache.get(7), 2);
  EXPECT_THROW(cache.get(-7), std::invalid_argument);
  EXPECT_THROW((void)cache.start_get(-7), std::invalid_argument);
  EXPECT_THROW((void)cache.find(-7), std::invalid_argument);
  EXPECT_THROW(cache.put(-7, 3), std::invalid_argument);
  EXPECT_THROW(cache.invalidate(-7), std::invalid_argument);
  EXPECT_THROW(cache.refresh(-7), std::invalid_argument);
  EXPECT_EQ(cache.get_all(std::vector{7})[0].value().operator*(), 2);
  EXPECT_THROW((void)cache.get_all(std::vector{-7})[0].value(), std::invalid_argument);
  EXPECT_EQ(cache.stats().entries, 1U);
}

// Goal    A loader is called with an argument that fits its parameter; a result that Value cannot
//         hold is the load's error.
TEST(keys, loaders_keep_signs) {
  loading_cache<std::int64_t, std::uint64_t> cache([](std::uint64_t k) { return k; });
  EXPECT_EQ(*cache.get(7), 7U);
  EXPECT_THROW(cache.get(-7), std::invalid_argument);
  loading_cache<int, std::uint64_t> values([](int k) { return k; });
  EXPECT_EQ(*values.get(7), 7U);
  EXPECT_THROW(values.get(-7), std::invalid_argument);
  EXPECT_THROW(values.put(7, -1), std::invalid_argument);
}

// Goal    An empty function as an option counts as none, whatever number types it takes.
TEST(keys, an_empty_function_is_none) {
  cache_options<int, int> options{.capacity = 10};
  options.weigher = std::function<std::size_t(long, long)>();
  options.ttl_of = std::function<std::chrono::nanoseconds(long, long)>();
  options.on_removal = std::function<void(long, const int*, removal_cause)>();
  EXPECT_FALSE(options.weigher || options.ttl_of || options.on_removal);
  loading_cache<int, int> cache([](int key) { return key; }, std::move(options));
  EXPECT_EQ(*cache.get(7), 7);
  EXPECT_EQ(cache.stats().weight, 1U);
}

}  // namespace
