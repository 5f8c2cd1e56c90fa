// SPDX-License-Identifier: Apache-2.0
#include "lab/simulation/simulator.hpp"

#include <array>
#include <utility>

#include "lab/simulation/simulated_protections.hpp"

namespace singleflight::lab {

namespace {

template <class Protection>
simulated_run drive(const simulation& what, const std::stop_token& stop,
                    std::atomic<std::uint64_t>& done) {
  load_ledger ledger(what);
  Protection protection(what, ledger);
  spool<timed_request>::cursor requests(what.trace.requests);
  std::size_t process = 0;
  for (std::uint64_t i = 0; i < what.trace.requests.size(); ++i) {
    if (i % 65536 == 0) {
      if (i > 0) done.fetch_add(65536, std::memory_order_relaxed);
      if (stop.stop_requested()) {
        ledger.run.complete = false;
        break;
      }
    }
    const auto request = requests.next();
    while (protection.in_flight.any_due(request.time)) protection.end_next();
    ledger.make(request, i);
    protection.request(process, request.key, request.time);
    ++ledger.run.requests;
    if (++process == what.processes) process = 0;
  }
  while (!protection.in_flight.empty()) protection.end_next();
  ledger.run.peak_loads = protection.in_flight.most();
  protection.finish();
  return std::move(ledger.run);
}

struct known_simulation {
  std::string_view name;
  simulated_run (*run)(const simulation&, const std::stop_token&, std::atomic<std::uint64_t>&);
};

constexpr std::array<known_simulation, 4> known_simulations{
    {{"none", &drive<simulated_none>},
     {"flight", &drive<simulated_flight>},
     {"cache-alone", &drive<simulated_cache_alone>},
     {"cache", &drive<simulated_cache>}}};

}  // namespace

simulated_run simulate(const simulation& what, std::string_view protection,
                       const std::stop_token& stop, std::atomic<std::uint64_t>& done) {
  for (const auto& known : known_simulations) {
    if (known.name != protection) continue;
    auto run = known.run(what, stop, done);
    run.protection = protection;
    return run;
  }
  return {};
}

}  // namespace singleflight::lab
