// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: a random source returns 64 random bits
#include <functional>
#include <random>

#include <singleflight/sync.hpp>

std::mt19937 source;
const singleflight::retry_policy policy{.random = std::ref(source)};
