// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The flight floor: group and what belongs to it. Standard library only.

#include "singleflight/core.hpp"
#include "singleflight/flight/deduplicate.hpp"
#include "singleflight/flight/group.hpp"
