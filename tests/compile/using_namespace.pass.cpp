// SPDX-License-Identifier: Apache-2.0
//
// With `using namespace singleflight`, a program may still name its own functions after the usual
// verbs.
#include <string>

#include <singleflight/cache.hpp>
#include <singleflight/sync.hpp>

using namespace singleflight;

int share(int x) { return x; }
int hand_over(unsigned n) { return static_cast<int>(n); }
int stop(int x) { return x; }
int load(const std::string& key) { return share(hand_over(static_cast<unsigned>(key.size()))); }

int use(group<std::string, int>& flights) {
  return stop(*flights.run("key", [] { return load("key"); }));
}
