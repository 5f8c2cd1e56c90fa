// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: a batch returns values
#include <singleflight/sync.hpp>

singleflight::batcher<int, const int>* keys = nullptr;
std::size_t size = sizeof(*keys);
