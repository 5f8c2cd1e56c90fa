// SPDX-License-Identifier: Apache-2.0
//
// A hundred threads ask for one user at the same moment: one of them asks the database, all get its
// answer.

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
  int queries = 0;  // one load at a time: it needs no lock

  const auto find_user = [&](const singleflight::flight_context& flight) {
    ++queries;
    // A slow database; here it is slow enough for everybody to have asked meanwhile.
    while (flight.callers() < callers) std::this_thread::yield();
    return user{"Ada", 36};
  };

  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < callers; ++i) {
      threads.emplace_back([&] {
        const auto found = users.run("user:42", find_user);  // blocks until the answer is there
        if (found.role() == singleflight::flight_role::leader) {
          std::printf("%s, %d: shared by %zu callers\n", found->name.c_str(), found->age,
                      found.callers());
        }
      });
    }
  }

  const auto stats = users.stats();
  std::printf("%llu calls, %d query\n", static_cast<unsigned long long>(stats.calls), queries);

  // Answers are shared, not kept: who asks now asks the database again.
  const auto again = users.run("user:42", [] { return user{"Ada", 37}; });
  return queries == 1 && stats.calls == callers && again->age == 37 && !again.shared() ? 0 : 1;
}
