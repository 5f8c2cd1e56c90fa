// SPDX-License-Identifier: Apache-2.0

// The bodies of core, for programs that link singleflight::compiled.

#include "singleflight/core.hpp"

#include "singleflight/core/impl/default_timer.hpp"
#include "singleflight/core/impl/errors.hpp"
#include "singleflight/core/impl/fork.hpp"
#include "singleflight/core/impl/hash_secret.hpp"
#include "singleflight/core/impl/manual_timer.hpp"
#include "singleflight/core/impl/number.hpp"
#include "singleflight/core/impl/one_shot.hpp"
#include "singleflight/core/impl/platform.hpp"
#include "singleflight/core/impl/random.hpp"
#include "singleflight/core/impl/require.hpp"
#include "singleflight/core/impl/sleeper.hpp"
#include "singleflight/core/impl/steady_timer.hpp"
#include "singleflight/core/impl/striped_counters.hpp"
#include "singleflight/core/impl/thread_pool.hpp"
#include "singleflight/core/impl/thread_state.hpp"
#include "singleflight/core/impl/timer_wheel.hpp"
#include "singleflight/core/impl/trampoline.hpp"
#include "singleflight/core/impl/wait_graph.hpp"
