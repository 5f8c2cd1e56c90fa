// SPDX-License-Identifier: Apache-2.0
// expect: wrap it: .*singleflight::copyable
//
// The message for an executor that takes only copyable functions names the adapter.
#include <functional>

#include <singleflight/core.hpp>

void use(std::function<void(std::function<void()>)> ex) { singleflight::any_executor fits(ex); }
