// SPDX-License-Identifier: Apache-2.0
#pragma once

// A scheduler that chooses every switch between the threads of a small world, and explores all
// choices up to a bound, or many at random.
//
// Threads are fibers on one thread of the system, so a schedule is a list of choices and can be
// repeated. The code under test runs on support/model/platform.hpp: each of its atomic operations,
// locks, sleeps and allocations is a step, for which arrive() is called before it happens; another
// thread may be scheduled there.
//
// Exploration  depth first over the choices; each schedule runs again from the beginning. A switch
//              away from a thread that could continue is a preemption; their number is bounded
//              (Musuvathi and Qadeer, PLDI 2007). An address that only one thread uses is not a
//              place to switch. A state that was reached before with as many preemptions left is
//              not explored again: two prefixes are in the same state when their steps are ordered
//              alike where they depend on each other (happens-before caching, CHESS, OSDI 2008).
// Random       priorities with few change points (PCT: Burckhardt et al., ASPLOS 2010).
//
// Values are sequentially consistent: weaker orders are argued for in the code, next to each
// operation, and checked under ThreadSanitizer (tests/orders/).

#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>
#include <string>
#include <vector>

namespace model {

enum class op : std::uint8_t {
  begin,
  load,
  store,
  exchange,
  lock,
  unlock,
  sleep,
  wake,
  pause,
  choose,
  end,
};
const char* name_of(op what) noexcept;

struct step {
  int thread = 0;
  op what = op::begin;
  const void* where = nullptr;
  int chosen = 0;
  std::source_location line{};
};

struct limits {
  int preemptions = 2;
  int faults = 0;  ///< most failed allocations, spurious wake-ups and the like in a schedule
  std::uint64_t schedules = 1'000'000;
  std::uint64_t random_schedules = 0;  ///< instead of the exhaustive search
  std::uint64_t seed = 1;
  std::size_t steps = 5'000;  ///< of one thread in a schedule: more count as a livelock
};

struct report {
  std::uint64_t schedules = 0;
  std::uint64_t states = 0;
  bool exhausted = false;    ///< every schedule within the bound was tried
  std::string failure;       ///< empty when no schedule failed
  std::vector<int> choices;  ///< of the schedule that failed; an argument for replay()
  std::string text() const;  ///< the failed schedule, step by step
  std::vector<step> history;
};

class world;
using body = std::function<void(world&)>;

/// Runs `what` under every schedule within `bounds`, until one fails.
report explore(const body& what, const limits& bounds = {});
/// Runs one schedule.
report replay(const body& what, const std::vector<int>& choices, const limits& bounds = {});

/// The interface of a body: it makes its threads, runs them, and checks what they did.
class world {
 public:
  /// Adds a thread; it runs within run().
  void thread(std::function<void()> what);
  /// Runs all threads to their end.
  void run();
  /// Ends the schedule as a failure.
  [[noreturn]] void fail(const std::string& why);
  void check(bool holds, const char* what) {
    if (!holds) fail(what);
  }
};

// ---- for the platform ---------------------------------------------------------------------------

/// Whether the calling code runs in a schedule, on a thread that can be switched.
bool exploring() noexcept;
/// Called before each step; other threads may run before the step happens.
void arrive(op what, const void* where, const std::source_location& line);
/// Chooses one of n ways to continue; 0 is the usual one, the others cost a fault.
int choose(int n, const std::source_location& line);
[[noreturn]] void fail(const std::string& why);

enum class sleeps : std::uint8_t {
  soundly,  ///< woken by a wake-up only
  lightly,  ///< or, as a fault, spuriously
  idly,     ///< likewise; and a helper may be in such a sleep when its world ends
};
/// Sleeps on `where` until woken through one of `channels`; returns false if the deadline passed.
bool sleep(const void* where, std::uint32_t channels, const std::int64_t* deadline, sleeps how,
           const std::source_location& line);
void wake(const void* where, int count, std::uint32_t channels, const std::source_location& line);
void pause(const std::source_location& line);
std::int64_t now() noexcept;

int this_thread() noexcept;
/// Starts a thread on behalf of the library. A world may end while that thread sleeps.
int start_helper(std::function<void()> what);
/// Thrown on a thread that the library started: ends that thread, as pthread_exit does.
struct thread_exit {};
void join(int thread, const std::source_location& line);
void at_thread_exit(void (*what)() noexcept);
/// All other threads stop permanently where they are, as in a child of fork. Their allocations may
/// stay, and their frames exist until vanish_frames().
void vanish_others();
void vanish_frames();

/// The storage of slot `id` of this thread; `fresh` is true at its first use in this schedule.
inline constexpr std::size_t slot_bytes = 256;
void* slot(std::size_t id, bool& fresh);

/// The number of faults in this schedule so far.
int faults() noexcept;
/// While it lives, this thread meets no faults: for a world's own bookkeeping.
class spared {
 public:
  spared() noexcept;
  spared(const spared&) = delete;
  spared& operator=(const spared&) = delete;
  ~spared();
};
/// While it lives, allocations may stay until the schedule's end: they belong to the process.
class eternal {
 public:
  eternal() noexcept;
  eternal(const eternal&) = delete;
  eternal& operator=(const eternal&) = delete;
  ~eternal();

 private:
  bool was_;
};
/// While it lives, allocations do not belong to the schedule.
class unwatched {
 public:
  unwatched() noexcept;
  unwatched(const unwatched&) = delete;
  unwatched& operator=(const unwatched&) = delete;
  ~unwatched();

 private:
  bool was_;
};
/// The number of the schedule: what is made once per process is made once per schedule.
std::uint64_t epoch() noexcept;

}  // namespace model
