// SPDX-License-Identifier: Apache-2.0
//
// Many keys in one call: one load for those that are not being loaded yet; the others are joined.

#include <cstdio>
#include <latch>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <singleflight/flight.hpp>

int main() {
  std::latch may_answer(1);
  singleflight::group<int, std::string> names;
  auto two = names.start(2, [&] {  // key 2 is being loaded already
    may_answer.wait();
    return std::string("two");
  });

  std::size_t requested = 0;
  const auto load_many = [&](std::span<const int> ids) {
    requested = ids.size();
    may_answer.count_down();
    std::vector<singleflight::outcome<std::string>> found;  // one per id, by position
    for (const int id : ids) {
      if (id < 0) {  // a key can fail alone
        found.emplace_back(std::make_exception_ptr(std::out_of_range("no such id")));
      } else {
        found.emplace_back(std::string(static_cast<std::size_t>(id), '*'));
      }
    }
    return found;
  };

  const auto all = names.run_many(std::vector{1, 2, 3, -1, 3}, load_many);  // 3 is listed twice
  for (const auto& one : all) {
    std::printf("%s\n", one ? (*one)->c_str() : "failed");
  }

  // The same on the executor: one handle per key, by position.
  auto handles = names.start_many(std::vector{4, 5}, load_many);
  const bool later = *handles[0].get() == "****" && *handles[1].get() == "*****";

  const bool right = **all[0] == "*" && **all[1] == "two" && **all[2] == "***" && !all[3] &&
                     **all[4] == "***" && *two.get() == "two";
  return right && later && requested == 2 && names.stats().loads == 6 ? 0 : 1;
}
