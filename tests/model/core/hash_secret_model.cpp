// SPDX-License-Identifier: Apache-2.0

// The secret of the hashes is drawn once, whichever thread draws it.

#include <array>
#include <cstddef>
#include <cstdint>

#include "model/worlds.hpp"
#include <singleflight/core/support/hash_secret.hpp>

namespace {

using model::add_world;
using model::three;
using model::world;
using singleflight::detail::hash_secret;
using words = std::array<std::uint64_t, hash_secret::count>;

words drawn(hash_secret& secret, std::uint64_t bits) {
  secret.draw([bits] { return bits; });
  words seen{};
  for (std::size_t i = 0; i < seen.size(); ++i) seen[i] = secret.word(i);
  return seen;
}

const add_world two_draw("58: two threads draw the secret of the hashes", three, [](world& w) {
  hash_secret secret{0};
  words a{};
  words b{};
  w.thread([&] { a = drawn(secret, 2); });
  w.thread([&] { b = drawn(secret, 4); });
  w.run();
  w.check(a == b, "two threads hash by different secrets");
  w.check(a == drawn(secret, 6), "the secret has changed");
  w.check(a[0] != 0 && a[0] != a[1] && a[1] != a[2], "a word of the secret repeats another");
});

}  // namespace
