// SPDX-License-Identifier: Apache-2.0
#include "lab/replay/experiment.hpp"

#include <algorithm>
#include <mutex>

#include "lab/protection/protection.hpp"
#include "lab/replay/load_meter.hpp"

namespace singleflight::lab {

namespace {

using clock = std::chrono::steady_clock;

// One per request in flight. By Little's law there are 5,000 at 1,000 requests per second with a
// latency of 5 s.
constexpr std::size_t most_open_loop_threads = 10'000;

// A trial selects requests from all over the workload.
constexpr auto trial_time = std::chrono::milliseconds(300);
constexpr std::size_t trial_stride = 7919;

}  // namespace

double run_result::answers_per_s() const {
  const double seconds = std::chrono::duration<double>(wall).count();
  return seconds > 0 ? static_cast<double>(seen.answered) / seconds : 0;
}

run_result measure(const experiment& what, const std::string& protection, backend& measured,
                   const std::stop_token& stop, std::atomic<std::uint64_t>& done) {
  load_meter loads(measured);
  guarded_backend guarded(loads, what.guards);
  const auto protecting = make_protection(protection, guarded, what.cache);
  recorder record;

  const auto make = [&](std::size_t thread, std::size_t request, clock::time_point waits_since) {
    const auto deadline = what.deadline ? waits_since + *what.deadline : steady_time::max();
    auto got = protecting->ask(what.requests.key_of(request), deadline);
    const auto end = clock::now();
    // A request that ends after the stop may have failed because of it.
    if (stop.stop_requested()) return;
    if (!got.error && end > deadline) {
      got.error = {"timed_out", "the answer arrived after the deadline"};
    }
    record.record(thread, end - waits_since, got);
    done.fetch_add(1, std::memory_order_relaxed);
  };

  const auto due = what.pace.due_times(what.requests);
  const auto count = what.requests.requests.size();
  run_result result;
  result.protection = protection;
  const auto begin = clock::now();
  // Requests and loads that the stop ends are not counted.
  std::optional<clock::time_point> stopped_at;
  std::optional<guard_counts> guards;
  std::optional<cache_counts> cached;
  loads.start();
  {
    const std::stop_callback on_stop(stop, [&] {
      stopped_at = clock::now();
      loads.stop();
      guards = guarded.counts();
      cached = protecting->cached();
      guarded.interrupt();
    });
    result.calls = what.pace.open() ? call_in_open_loop(due, most_open_loop_threads, make, stop)
                                    : call_in_closed_loop(count, what.pace.callers, make, stop);
  }
  const auto end = stopped_at ? *stopped_at : clock::now();
  loads.stop();
  result.wall = std::max<std::chrono::nanoseconds>(end - begin, std::chrono::nanoseconds(0));
  result.seen = record.sum();
  result.complete = result.seen.requests == count;
  result.backend_loads = loads.loads();
  result.guards = guards ? *guards : guarded.counts();
  result.cached = cached ? cached : protecting->cached();
  result.loads_in_flight = loads.series();
  return result;
}

std::vector<std::chrono::nanoseconds> time_loads(backend& measured, const workload& requests,
                                                 const std::stop_token& stop) {
  const std::stop_callback on_stop(stop, [&] { measured.interrupt(); });
  const auto end = clock::now() + trial_time;
  const auto total = requests.requests.size();
  std::vector<std::chrono::nanoseconds> taken;
  for (std::size_t i = 0; i < total && clock::now() < end && !stop.stop_requested(); ++i) {
    const auto begin = clock::now();
    try {
      measured.load(requests.key_of(i * trial_stride % total), [] { return steady_time::max(); });
    } catch (const no_connection&) {
      continue;
    } catch (const backend_error&) {  // NOLINT(bugprone-empty-catch)
      // The backend has done its work.
    }
    taken.push_back(clock::now() - begin);
  }
  return taken;
}

double probe(backend& measured, const workload& requests, std::size_t callers,
             const std::stop_token& stop) {
  constexpr auto duration = trial_time;
  constexpr std::size_t most_threads = 1000;
  const auto total = requests.requests.size();
  // More loads than the backend has connections would only queue.
  const auto at_once =
      std::min(callers, measured.connections() > 0 ? measured.connections() : most_threads);
  const std::stop_callback on_stop(stop, [&] { measured.interrupt(); });
  const auto begin = clock::now();
  std::mutex mutex;  // guards the variables below
  std::size_t loads = 0;
  auto last = begin;
  call_in_closed_loop(
      total, at_once,
      [&](std::size_t /*thread*/, std::size_t request, clock::time_point now) {
        if (now - begin > duration) return;
        const auto place = request * trial_stride % total;
        try {
          // Neither a queue nor retries may outlast the trial.
          measured.load(requests.key_of(place), [&] { return begin + duration; });
        } catch (const no_connection&) {
          return;
        } catch (const backend_error&) {  // NOLINT(bugprone-empty-catch)
          // Failures are counted in the measured runs; the trial measures only the time.
        }
        const std::scoped_lock lock(mutex);
        ++loads;
        last = clock::now();
      },
      stop);
  const double seconds = std::chrono::duration<double>(last - begin).count();
  return seconds > 0 ? static_cast<double>(loads) / seconds : 0;
}

}  // namespace singleflight::lab
