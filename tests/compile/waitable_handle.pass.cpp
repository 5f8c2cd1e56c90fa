// SPDX-License-Identifier: Apache-2.0
//
// Every handle of the library is a waitable_handle, and nothing else is.
#include <singleflight/cache.hpp>
#include <singleflight/sync.hpp>

namespace sf = singleflight;

static_assert(sf::waitable_handle<sf::flight<int>>);
static_assert(sf::waitable_handle<sf::flight<void>>);
static_assert(sf::waitable_handle<sf::pending_result<int>>);
static_assert(sf::waitable_handle<sf::pending_permit>);
static_assert(sf::waitable_handle<sf::pending_cached<int>>);
static_assert(!sf::waitable_handle<int>);
static_assert(!sf::waitable_handle<sf::shared_result<int>>);
