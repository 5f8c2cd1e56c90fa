// SPDX-License-Identifier: Apache-2.0
// expect: ignoring return.*nodiscard
//
// An outcome that is not inspected is an error that goes unnoticed.
#include <singleflight/core.hpp>

singleflight::outcome<int> answer();

void use() { answer(); }
