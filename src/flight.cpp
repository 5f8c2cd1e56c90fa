// SPDX-License-Identifier: Apache-2.0

// The bodies of flight, for programs that link singleflight::compiled.

#include "singleflight/flight.hpp"

#include "singleflight/flight/impl/async_wait.hpp"
#include "singleflight/flight/impl/blocked_wait.hpp"
#include "singleflight/flight/impl/context.hpp"
#include "singleflight/flight/impl/flight_block.hpp"
#include "singleflight/flight/impl/flight_call_enter.hpp"
#include "singleflight/flight/impl/flight_call_run.hpp"
#include "singleflight/flight/impl/flight_call_start.hpp"
#include "singleflight/flight/impl/flight_core_begin.hpp"
#include "singleflight/flight/impl/flight_core_cancel.hpp"
#include "singleflight/flight/impl/flight_core_close.hpp"
#include "singleflight/flight/impl/flight_core_elect.hpp"
#include "singleflight/flight/impl/flight_core_end.hpp"
#include "singleflight/flight/impl/flight_core_fork.hpp"
#include "singleflight/flight/impl/flight_core_leave.hpp"
#include "singleflight/flight/impl/flight_core_loads.hpp"
#include "singleflight/flight/impl/flight_core_look.hpp"
#include "singleflight/flight/impl/flight_share.hpp"
#include "singleflight/flight/impl/flight_table.hpp"
#include "singleflight/flight/impl/load_answer.hpp"
