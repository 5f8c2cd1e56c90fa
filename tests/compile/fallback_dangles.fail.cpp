// SPDX-License-Identifier: Apache-2.0
// expect: without loss
#include <string>
#include <string_view>

#include <singleflight/sync.hpp>

singleflight::circuit_breaker breaker;
auto kept = breaker.call([] { return std::string_view("a literal stays"); },
                         [] { return std::string("a temporary of the call"); });
