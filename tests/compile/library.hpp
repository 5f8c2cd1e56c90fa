// SPDX-License-Identifier: Apache-2.0
#pragma once

// Precompiled for the tests of this folder that do not test what a user's file must include.

#include <chrono>
#include <coroutine>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <singleflight/cache.hpp>
#include <singleflight/core.hpp>
#include <singleflight/flight.hpp>
#include <singleflight/sync.hpp>
