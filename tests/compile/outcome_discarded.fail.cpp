// SPDX-License-Identifier: Apache-2.0
// expect: ignoring return.*nodiscard
//
// An outcome that nobody looks at is an error that nobody sees.
#include <singleflight/core.hpp>

singleflight::outcome<int> answer();

void use() { answer(); }
