// SPDX-License-Identifier: Apache-2.0
//
// Accepted executors: a plain callable, an object with execute(task), a pool, inline_executor, and
// through copyable() one that takes only copyable functions.
#include <functional>
#include <utility>

#include <singleflight/core.hpp>

namespace sf = singleflight;

struct queue {
  void execute(sf::task work) { std::move(work)(); }
};

static_assert(sf::executor<queue>);
static_assert(sf::executor<sf::thread_pool>);
static_assert(sf::executor<sf::inline_executor_t>);
static_assert(sf::executor<void (*)(sf::task)>);
static_assert(!sf::executor<std::function<void(std::function<void()>)>>);
static_assert(!sf::executor<int>);

void use(sf::thread_pool& pool, std::function<void(std::function<void()>)> posts_copyable) {
  const sf::any_executor plain([](sf::task work) { std::move(work)(); });
  const sf::any_executor object{queue{}};
  const sf::any_executor pooled(pool);
  const sf::any_executor inlined(sf::inline_executor);
  const sf::any_executor wrapped(sf::copyable(std::move(posts_copyable)));
}
