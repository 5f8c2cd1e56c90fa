// SPDX-License-Identifier: Apache-2.0
// A group in a class: a repository's interface, and a decorator that coalesces its reads.

#include <atomic>
#include <latch>
#include <string>
#include <thread>
#include <vector>

#include <singleflight/flight.hpp>

namespace {

struct user_repository {
  virtual ~user_repository() = default;
  virtual std::string find(const std::string& id) = 0;
  virtual void rename(const std::string& id, const std::string& name) = 0;
};

class coalescing_user_repository final : public user_repository {
 public:
  explicit coalescing_user_repository(user_repository& inner) : inner_(inner) {}
  std::string find(const std::string& id) override {
    return *finds_.run(id, [&] { return inner_.find(id); });
  }
  void rename(const std::string& id, const std::string& name) override {
    inner_.rename(id, name);
    finds_.forget(id);  // later calls do not join a load that may have read the old name
  }

 private:
  user_repository& inner_;
  singleflight::group<std::string, std::string> finds_;
};

struct slow_database final : user_repository {
  std::string find(const std::string&) override {
    ++queries;
    asked.wait();  // a slow query: lasts until every caller is here
    return name;
  }
  void rename(const std::string&, const std::string& to) override { name = to; }
  std::latch asked{8};
  std::atomic<int> queries{0};
  std::string name = "Ada";
};

}  // namespace
int main() {
  slow_database database;
  coalescing_user_repository users(database);
  std::vector<std::jthread> callers;
  for (int i = 0; i < 8; ++i) {
    callers.emplace_back([&] { database.asked.count_down(), (void)users.find("42"); });
  }
  callers.clear();  // joined
  users.rename("42", "Grace");
  return users.find("42") == "Grace" && database.queries <= 9 ? 0 : 1;
}
