// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: a random source returns 64 random bits
#include <random>

#include <singleflight/sync.hpp>

const singleflight::retry_policy policy{.random = std::mt19937(1)};
