// SPDX-License-Identifier: Apache-2.0

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <utility>
#include <vector>

#include <singleflight/flight/detail/kept_loads.hpp>

namespace {

using singleflight::detail::kept_loads;
using singleflight::detail::kept_node;

// Goal    Loads are taken first in, first out; any load is found by its serial and can be removed,
//         and the rest stays in order.
// Method  Random changes, compared with a map.
TEST(kept_loads, compared_with_a_map) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    kept_loads all;
    std::vector<kept_node> nodes(300);
    std::map<std::uint32_t, kept_node*> there;
    std::size_t next = 0;
    for (int i = 0; i < 500; ++i) {
      switch (random() % 3) {
        case 0:
        case 1:
          if (next < nodes.size()) {
            kept_node& one = nodes[next++];
            all.push(one);
            EXPECT_EQ(all.last_serial(), one.serial);
            there[one.serial] = &one;
          }
          break;
        default:
          if (random() % 4 == 0 && !there.empty()) {
            ASSERT_EQ(&all.pop(), there.begin()->second);
            there.erase(there.begin());
          } else if (next > 0) {
            kept_node& one = nodes[random() % next];
            const bool here = there.erase(one.serial) == 1;
            ASSERT_EQ(all.take(one.serial), here ? &one : nullptr);
          }
      }
      ASSERT_EQ(all.empty(), there.empty());
    }
    std::vector<kept_node*> left;
    all.clear([&](kept_node& one) { left.push_back(&one); });
    EXPECT_TRUE(all.empty());
    std::vector<kept_node*> expected;
    for (const auto& [serial, one] : there) expected.push_back(one);
    ASSERT_EQ(left, expected);
  }
}

/// The number of steps down to the deepest node.
std::size_t depth(const kept_node* from) {
  std::size_t deepest = 0;
  std::vector<std::pair<const kept_node*, std::size_t>> way{{from, 1}};
  while (!way.empty()) {
    const auto [at, level] = way.back();
    way.pop_back();
    if (at == nullptr) continue;
    deepest = std::max(deepest, level);
    way.emplace_back(at->left, level + 1);
    way.emplace_back(at->right, level + 1);
  }
  return deepest;
}

// Goal    With a hundred thousand nodes, many of them removed in any order, every node is only a
//         few steps from the root.
TEST(kept_loads, a_crowd_stays_flat) {
  constexpr std::size_t crowd = 100'000;
  std::vector<kept_node> nodes(crowd);
  kept_loads all;
  for (kept_node& one : nodes) all.push(one);
  const auto root = [&] {  // the node that is no other node's child
    std::vector<bool> below(crowd + 1);
    for (const kept_node& one : nodes) {
      if (one.serial == 0) continue;
      for (const kept_node* n : {one.left, one.right}) {
        if (n != nullptr) below[n->serial] = true;
      }
    }
    for (const kept_node& one : nodes) {
      if (one.serial != 0 && !below[one.serial]) return &one;
    }
    return static_cast<const kept_node*>(nullptr);
  };
  EXPECT_LT(depth(root()), 80U);
  std::mt19937 random(2);
  for (std::size_t i = 0; i < crowd / 2; ++i) {
    kept_node& one = nodes[random() % crowd];
    if (one.serial == 0) continue;
    ASSERT_EQ(all.take(one.serial), &one);
    one.serial = 0;
  }
  EXPECT_LT(depth(root()), 80U);
  all.clear([](kept_node&) {});
}

}  // namespace
