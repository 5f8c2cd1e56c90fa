// SPDX-License-Identifier: Apache-2.0
// expect: wrap it: .*singleflight::copyable
//
// An executor that takes only copyable functions is told how to make itself fit.
#include <functional>

#include <singleflight/core.hpp>

void use(std::function<void(std::function<void()>)> ex) { singleflight::any_executor fits(ex); }
