// SPDX-License-Identifier: Apache-2.0
//
// A client that answers through a callback, on a thread of its own: the loader takes a
// flight_promise and passes it on. Any other asynchronous framework can be adapted in this way.

#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <singleflight/flight.hpp>

namespace {

// Represents a third-party library.
class callback_client {
 public:
  template <class Callback>
  void get(std::string key, Callback done) {
    threads_.emplace_back([key = std::move(key), done = std::move(done)]() mutable {
      done(key.empty() ? std::string() : "value of " + key);
    });
  }

 private:
  std::vector<std::jthread> threads_;
};

}  // namespace

int main() {
  callback_client client;
  // The loader only passes the promise on, so it may run on the thread that calls start.
  singleflight::group<std::string, std::string> values({.executor = singleflight::inline_executor});

  const auto fetch = [&](const std::string& key) {
    return values.start(key, [&client, key](singleflight::flight_promise<std::string> promise) {
      client.get(key, [promise = std::move(promise)](std::string got) mutable {
        if (!got.empty()) {
          promise.set_value(std::move(got));
        } else {
          promise.set_error(std::make_exception_ptr(std::runtime_error("no key")));
        }
      });  // a promise that is destroyed without an answer would end the flight as `broken`
    });
  };

  auto good = fetch("a");
  auto bad = fetch("");
  const auto outcome = bad.get_outcome();
  const auto value = good.get();
  std::printf("%s; %s\n", value->c_str(), outcome ? "?" : "the other one failed");
  return *value == "value of a" && !outcome ? 0 : 1;
}
