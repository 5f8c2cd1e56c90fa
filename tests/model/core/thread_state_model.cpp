// SPDX-License-Identifier: Apache-2.0

// The count of loads, over all threads, that continue wherever they are resumed.

#include "model/worlds.hpp"
#include "support/model/gate.hpp"
#include <singleflight/core/support/thread_state.hpp>

namespace {

using model::add_world;
using model::three;
using model::world;
using singleflight::detail::wandering_load;

/// Loads that begin on one thread and end on another hide no other load, at whichever step one
/// looks.
const add_world others(
    "53: a wandering load is looked for as others begin and end", three, [](world& w) {
      w.check(!wandering_load::any(), "53: a load is seen before the first");
      {
        const wandering_load continues;
        w.check(wandering_load::any(), "53: a wandering load is not seen where it began");
        model::gate resumed;
        w.thread([&] {
          wandering_load::begin();
          resumed.open();
        });
        w.thread([&] {
          resumed.wait();
          wandering_load::end();
        });
        w.thread([&] { w.check(wandering_load::any(), "53: a wandering load is not seen"); });
        w.run();
      }
      w.check(!wandering_load::any(), "53: a load that has ended is seen");
    });

}  // namespace
