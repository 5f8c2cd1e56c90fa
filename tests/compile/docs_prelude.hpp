// SPDX-License-Identifier: Apache-2.0
#pragma once

// Prepended to each C++ block of the documents that is not a whole program: the names that such a
// block may use without declaring them. doc_blocks.py describes how blocks are read.

#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <iostream>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <singleflight/cache.hpp>
#include <singleflight/core.hpp>
#include <singleflight/flight.hpp>
#include <singleflight/sync.hpp>

namespace docs {

// A block with co_await becomes a coroutine of this type: it starts at once and is not awaited.
struct coroutine {
  struct promise_type {
    coroutine get_return_object() noexcept { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() noexcept {}
    void unhandled_exception() noexcept { std::terminate(); }
  };
};

}  // namespace docs

using namespace singleflight;          // NOLINT(google-build-using-namespace)
using namespace std::chrono_literals;  // NOLINT(google-build-using-namespace)
using namespace std::string_literals;  // NOLINT(google-build-using-namespace)

// The service in the documents' examples: users in a slow database.
struct user {
  std::string name;
  int age = 0;
};

struct database {
  user find_user(std::string_view id);
  user find_user(std::string_view id, std::stop_token stop);
  std::vector<outcome<user>> find_users(std::span<const std::string> ids);
};

extern database db;
extern singleflight::group<std::string, user> users;
struct config {
  int workers = 0;
  friend bool operator==(const config&, const config&) = default;
};
config read_config();
extern std::string id;
user load_user(std::string_view id);
void use(const user& who);
void serve(const user& who);
void log(std::string_view line);
