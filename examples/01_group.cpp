// SPDX-License-Identifier: Apache-2.0
//
// A hundred threads request one user at the same moment: one of them queries the database, and all
// get its result.

#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include <singleflight/flight.hpp>

namespace {

struct user {
  std::string name;
  int age = 0;
};

}  // namespace

int main() {
  constexpr std::size_t callers = 100;
  singleflight::group<std::string, user> users;
  int queries = 0;  // needs no lock, since there is one load at a time

  const auto find_user = [&](const singleflight::flight_context& flight) {
    ++queries;
    // A slow database: the query lasts until all callers have joined.
    while (flight.callers() < callers) std::this_thread::yield();
    return user{"Ada", 36};
  };

  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < callers; ++i) {
      threads.emplace_back([&] {
        const auto found = users.run("user:42", find_user);  // blocks until the result is available
        if (found.role() == singleflight::flight_role::leader) {
          std::printf("%s, %d: shared by %zu callers\n", found->name.c_str(), found->age,
                      found.callers());
        }
      });
    }
  }

  const auto stats = users.stats();
  std::printf("%llu calls, %d query\n", static_cast<unsigned long long>(stats.calls), queries);

  // Results are shared, not kept: a call that begins now queries the database again.
  const auto again = users.run("user:42", [] { return user{"Ada", 37}; });
  return queries == 1 && stats.calls == callers && again->age == 37 && !again.shared() ? 0 : 1;
}
