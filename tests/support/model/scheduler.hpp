// SPDX-License-Identifier: Apache-2.0
#pragma once

// A scheduler that chooses every switch between the threads of a small world, and explores all
// choices up to a bound, or many at random.
//
// Threads are fibers on one thread of the system, so a schedule is a list of choices and can be
// repeated. The code under test runs on support/model/platform.hpp: each of its atomic operations,
// locks, sleeps and allocations is a step, announced by arrive() before it happens; there another
// thread may be let in.
//
// Exploration  depth first over the choices, each schedule run anew from its begin. A switch away
//              from a thread that could go on is a preemption; their number is bounded (Musuvathi
//              and Qadeer, PLDI 2007). An address that one thread alone uses is no place to switch.
//              A state that was reached before with as many preemptions left is not explored again:
//              two prefixes are in one state when their steps are ordered alike where they depend
//              on each other (happens-before caching, CHESS, OSDI 2008).
// Random       priorities with few change points (PCT: Burckhardt et al., ASPLOS 2010).
//
// Values are sequentially consistent: weaker orders are argued beside the code and checked under
// ThreadSanitizer (tests/orders/).

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
  int faults = 0;  ///< how many failed allocations, spurious wake-ups and such a schedule may have
  std::uint64_t schedules = 1'000'000;
  std::uint64_t random_schedules = 0;  ///< instead of the exhaustive search
  std::uint64_t seed = 1;
  std::size_t steps = 5'000;  ///< of one schedule: beyond is a livelock
};

struct report {
  std::uint64_t schedules = 0;
  std::uint64_t states = 0;
  bool exhausted = false;    ///< every schedule within the bound was tried
  std::string failure;       ///< empty when all went well
  std::vector<int> choices;  ///< of the schedule that failed: replay() takes them
  std::string text() const;  ///< the failed schedule, step by step
  std::vector<step> history;
};

class world;
using body = std::function<void(world&)>;

/// Runs `what` under every schedule within `bounds`, until one fails.
report explore(const body& what, const limits& bounds = {});
/// Runs one schedule.
report replay(const body& what, const std::vector<int>& choices, const limits& bounds = {});

/// What a body uses: it makes its threads, lets them run, and looks at what they did.
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

/// Whether the calling code runs in a schedule, and switches are made.
bool exploring() noexcept;
/// A step is about to happen; other threads may run before it does.
void arrive(op what, const void* where, const std::source_location& line);
/// One of n ways to go on; 0 is the usual one, the others cost a fault.
int choose(int n, const std::source_location& line);
[[noreturn]] void fail(const std::string& why);

enum class sleeps : std::uint8_t {
  soundly,  ///< woken by a wake-up only
  lightly,  ///< or, as a fault, by nobody
  idly,     ///< likewise, and a helper may sleep so when its world ends
};
/// Sleeps on `where` until woken through one of `channels`; false: the deadline has passed.
bool sleep(const void* where, std::uint32_t channels, const std::int64_t* deadline, sleeps how,
           const std::source_location& line);
void wake(const void* where, int count, std::uint32_t channels, const std::source_location& line);
void pause(const std::source_location& line);
std::int64_t now() noexcept;

int this_thread() noexcept;
/// A thread that the library starts by itself. A world may end while it sleeps.
int start_helper(std::function<void()> what);
/// Thrown on a thread that the library started: ends it, as pthread_exit does.
struct thread_exit {};
void join(int thread, const std::source_location& line);
void at_thread_exit(void (*what)() noexcept);
/// All other threads stop where they are, for ever, as in a child of fork. What they have allocated
/// may stay, and their frames are there until vanish_frames().
void vanish_others();
void vanish_frames();

/// The place of slot `id` of this thread; `fresh` when nobody has asked for it in this schedule.
inline constexpr std::size_t slot_bytes = 256;
void* slot(std::size_t id, bool& fresh);

/// How many faults this schedule has had so far.
int faults() noexcept;
/// While it lives, this thread meets no faults: what a world needs for its own books.
class spared {
 public:
  spared() noexcept;
  spared(const spared&) = delete;
  spared& operator=(const spared&) = delete;
  ~spared();
};
/// While it lives, what is allocated may stay until the schedule's end: it belongs to the process.
class eternal {
 public:
  eternal() noexcept;
  eternal(const eternal&) = delete;
  eternal& operator=(const eternal&) = delete;
  ~eternal();

 private:
  bool was_;
};
/// While it lives, memory is not the schedule's.
class unwatched {
 public:
  unwatched() noexcept;
  unwatched(const unwatched&) = delete;
  unwatched& operator=(const unwatched&) = delete;
  ~unwatched();

 private:
  bool was_;
};
/// Counts schedules: what is made once a process is made once a schedule.
std::uint64_t epoch() noexcept;

}  // namespace model
