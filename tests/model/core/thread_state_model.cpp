// SPDX-License-Identifier: Apache-2.0

// What threads count for all: the loads that go on wherever they are resumed.

#include "model/worlds.hpp"
#include "support/model/gate.hpp"
#include <singleflight/core/support/thread_state.hpp>

namespace {

using model::add_world;
using model::three;
using model::world;
using singleflight::detail::wandering_load;

/// Others that begin on one thread and end on another hide none, at whatever step one looks.
const add_world others("53: a wandering load is looked for as others come and go", three,
                       [](world& w) {
                         w.check(!wandering_load::any(), "53: there is one before the first");
                         {
                           const wandering_load goes_on;
                           w.check(wandering_load::any(), "53: one is not seen where it began");
                           model::gate resumed;
                           w.thread([&] {
                             wandering_load::begin();
                             resumed.open();
                           });
                           w.thread([&] {
                             resumed.wait();
                             wandering_load::end();
                           });
                           w.thread([&] {
                             w.check(wandering_load::any(), "53: one that goes on is not seen");
                           });
                           w.run();
                         }
                         w.check(!wandering_load::any(), "53: one that has ended is seen");
                       });

}  // namespace
