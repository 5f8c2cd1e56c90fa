// SPDX-License-Identifier: Apache-2.0

// The bodies of core, for programs that link singleflight::compiled.

#include "singleflight/core.hpp"
