// SPDX-License-Identifier: Apache-2.0

#include "support/model/scheduler.hpp"

#include <cxxabi.h>
#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <bit>
#include <boost/context/detail/fcontext.hpp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <optional>
#include <random>
#include <set>
#include <unordered_map>
#include <unordered_set>
#include <utility>

namespace model {
namespace {

namespace context = boost::context::detail;

constexpr std::size_t stack_bytes = std::size_t{256} << 10;
constexpr std::size_t arena_bytes = std::size_t{1} << 20;  // of one thread
constexpr std::size_t most_threads = 8;
constexpr std::size_t grain = 16;

std::uint64_t mix(std::uint64_t a, std::uint64_t b) noexcept {
  a = (a ^ b) * 0x9e3779b97f4a7c15U;
  return a ^ (a >> 29);
}

std::byte* map(std::size_t bytes) {
  void* const at =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) std::abort();
  return static_cast<std::byte*>(at);
}

/// Which exceptions a thread is handling: the runtime keeps this per thread of the system, so a
/// switch has to save and restore it. The layout is that of the Itanium C++ ABI.
struct exception_state {
  void* caught = nullptr;
  unsigned int uncaught = 0;
};
exception_state& exceptions_of_system_thread() noexcept {
  return *reinterpret_cast<exception_state*>(abi::__cxa_get_globals());
}

/// The memory of one thread in one schedule. It is handed out in order and never twice, so
/// addresses depend on nothing but the thread's own steps, and a use after the end is detected.
class arena {
 public:
  enum : std::uint8_t { untouched, living, freed, eternal };
  static constexpr int poison = 0xdb;

  arena() : memory_(map(arena_bytes)), shadow_(arena_bytes / grain, untouched) {}
  arena(const arena&) = delete;
  arena& operator=(const arena&) = delete;

  void clear() noexcept {
    std::memset(shadow_.data(), untouched, used_ / grain);
    used_ = 0;
  }
  void* allocate(std::size_t bytes, std::uint8_t state) noexcept {
    const std::size_t whole = grain + (bytes + grain - 1) / grain * grain;
    if (used_ + whole > arena_bytes) return nullptr;
    std::byte* const at = memory_ + used_;
    std::memcpy(at, &whole, sizeof whole);
    std::memset(shadow_.data() + used_ / grain, state, whole / grain);
    used_ += whole;
    return at + grain;
  }
  bool owns(const void* p) const noexcept { return p >= memory_ && p < memory_ + arena_bytes; }
  std::uint8_t state_of(const void* p) const noexcept { return shadow_[index_of(p)]; }
  std::size_t size_of(void* p) const noexcept {
    std::size_t whole = 0;
    std::memcpy(&whole, static_cast<std::byte*>(p) - grain, sizeof whole);
    return whole - grain;
  }
  void release(void* p) noexcept {
    const std::size_t bytes = size_of(p);
    std::memset(shadow_.data() + index_of(p), freed, bytes / grain);
    std::memset(p, poison, bytes);
  }
  /// Visits every block, with its size and state.
  template <class Visit>
  void each(Visit&& visit) const {
    for (std::size_t at = 0; at < used_;) {
      std::byte* const p = memory_ + at + grain;
      const std::size_t bytes = size_of(p);
      visit(p, bytes, shadow_[at / grain + 1]);
      at += bytes + grain;
    }
  }

 private:
  std::size_t index_of(const void* p) const noexcept {
    return static_cast<std::size_t>(static_cast<const std::byte*>(p) - memory_) / grain;
  }
  std::byte* const memory_;
  std::vector<std::uint8_t> shadow_;
  std::size_t used_ = 0;
};

struct fiber {
  enum class state : std::uint8_t { absent, ready, paused, asleep, vanished, done };

  std::byte* stack = nullptr;
  context::fcontext_t suspended_at = nullptr;
  std::function<void()> what;
  state now = state::absent;
  const void* sleeps_on = nullptr;
  std::uint32_t channels = 0;
  std::optional<std::int64_t> deadline;
  bool timed_out = false;
  bool helper = false;
  bool idle = false;             // asleep in a way that is allowed when its world ends
  int pauses = 0;                // consecutive ones, with nothing but loads between
  std::uint32_t lets_first = 0;  // while paused: threads that must step before this one does
  int spared = 0;
  bool eternal = false;
  exception_state exceptions;
  std::array<void (*)() noexcept, 4> at_exit{};
  alignas(16) std::array<std::array<std::byte, slot_bytes>, 4> slots;
  std::uint32_t slots_in_use = 0;
  std::uint64_t steps = 0;
  std::uint64_t priority = 0;  // random search: the highest one runs
};

/// One point of a schedule at which there was a choice.
struct choice {
  std::uint32_t options;  // a bit per alternative
  std::uint32_t tried;    // likewise
  int taken;
  int usual;   // the alternative that costs nothing while it exists; -1: they all cost nothing
  int spent;   // preemptions, or faults, before this choice
  bool fault;  // counts as a fault, else as a preemption
  bool open;   // its other alternatives will be tried
};

/// Whether allocations come from the current schedule: true while user code runs.
constinit bool user_code = false;
class scheduler;
constinit scheduler* made = nullptr;

class scheduler {
 public:
  scheduler() {
    made = this;
    catch_crashes();
    for (fiber& f : fibers_) f.stack = map(stack_bytes);
  }
  scheduler(const scheduler&) = delete;
  scheduler& operator=(const scheduler&) = delete;

  report explore(const body& what, const limits& bounds) {
    begin_search(what, bounds);
    for (;;) {
      run_schedule();
      if (!report_.failure.empty() || report_.schedules == most_schedules()) return finish();
      if (grew_) {  // more places to switch: start the search again
        grew_ = false;
        path_.clear();
        visited_.clear();
      } else if (bounds_.random_schedules == 0 && !next_path()) {
        break;
      }
    }
    report_.exhausted = true;
    return finish();
  }
  report replay(const body& what, const std::vector<int>& choices, const limits& bounds) {
    begin_search(what, bounds);
    forced_ = choices;
    replaying_ = true;
    run_schedule();
    replaying_ = false;
    return finish();
  }

  // ---- from within a schedule -------------------------------------------------------------------

  bool running() const noexcept { return running_ >= 0; }
  /// While it lives, allocations are the scheduler's own.
  struct inside {
    inside() noexcept : was(std::exchange(user_code, false)) {}
    inside(const inside&) = delete;
    inside& operator=(const inside&) = delete;
    ~inside() { user_code = was; }
    bool was;
  };
  bool exploring() const noexcept { return running_ > 0; }
  int this_thread() const noexcept { return running_; }
  std::uint64_t epoch() const noexcept { return epoch_; }
  std::int64_t now() const noexcept { return clock_; }

  void arrive(op what, const void* where, const std::source_location& line) {
    fiber& me = self();
    if (++me.steps > bounds_.steps) fail("livelock: a thread has taken too many steps");
    if (replaying_) {
      const int next = forced_thread();
      if (next > 0 && next != running_) go_to(next);
    } else if (is_shared(where)) {
      let_others_in();
    }
    if (what != op::wake) check_alive(where);  // a wake uses the address only as a name
    took_step(what, where, line);
  }

  int choose(int n, const std::source_location& line) {
    if (bounds_.faults == 0 || !exploring() || self().spared > 0) return 0;
    const int taken = replaying_ ? std::max(0, forced_step() - fault_mark)
                      : bounds_.random_schedules != 0
                          ? choose_at_random(n)
                          : decide((1U << static_cast<unsigned>(n)) - 1U, 0, faults_, true);
    if (taken != 0) ++faults_;
    ++self().steps;
    took_step(op::choose, nullptr, line, taken);
    return taken;
  }

  bool sleep(const void* where, std::uint32_t channels, const std::int64_t* deadline, sleeps how,
             const std::source_location& line) {
    took_step(op::sleep, where, line);
    if (!exploring()) fail("the world's own thread would sleep: no thread could wake it");
    if (how != sleeps::soundly && choose(2, line) == 1) return true;  // a spurious wake-up
    fiber& me = self();
    me.now = fiber::state::asleep;
    me.sleeps_on = where;
    me.channels = channels;
    me.deadline = deadline != nullptr ? std::optional(*deadline) : std::nullopt;
    me.timed_out = false;
    me.idle = how == sleeps::idly;
    go_to(next_thread());
    return !self().timed_out;
  }
  void wake(const void* where, int count, std::uint32_t channels,
            const std::source_location& line) {
    took_step(op::wake, where, line);
    std::uint32_t sleepers = 0;
    for (std::size_t i = 0; i < most_threads; ++i) {
      const fiber& f = fibers_[i];
      if (f.now == fiber::state::asleep && f.sleeps_on == where && (f.channels & channels) != 0) {
        sleepers |= 1U << i;
      }
    }
    if (count == 1 && std::popcount(sleepers) > 1) sleepers = 1U << which_of(sleepers, line);
    for (std::size_t i = 0; i < most_threads; ++i) {
      if ((sleepers >> i & 1U) != 0) fibers_[i].now = fiber::state::ready;
    }
  }
  void pause(const std::source_location& line) {
    fiber& me = self();
    if (++me.steps > bounds_.steps) fail("livelock: a thread spins without end");
    took_step(op::pause, nullptr, line);
    // Fair: a thread that keeps looking in vain lets all others step first; otherwise two that spin
    // could keep a third from ever continuing (Musuvathi and Qadeer, PLDI 2008).
    me.now = fiber::state::paused;
    me.lets_first = ++me.pauses < 3 ? 0 : threads_that_are(fiber::state::ready);
    if (me.pauses % 16 == 0) pass_time();  // or two that spin for a napping one never end
    me.priority = me.priority / 2;
    go_to(next_thread());
  }

  int start(std::function<void()> what, bool helper) {
    std::size_t index = 1;
    while (index < most_threads && fibers_[index].now != fiber::state::absent) ++index;
    if (index == most_threads) fail("a world has at most 7 threads");
    fiber& f = fibers_[index];
    f.what = std::move(what);
    f.helper = helper;
    f.suspended_at = context::make_fcontext(f.stack + stack_bytes, stack_bytes, &scheduler::enter);
    f.now = fiber::state::ready;
    f.priority = random_() / 2 + (std::uint64_t{1} << 62);
    return static_cast<int>(index);
  }
  void join(int thread, const std::source_location& line) {
    const fiber& other = fibers_[static_cast<std::size_t>(thread)];
    arrive(op::load, &other, line);
    while (other.now != fiber::state::done) sleep(&other, ~0U, nullptr, sleeps::soundly, line);
  }
  void at_thread_exit(void (*what)() noexcept) {
    for (auto& place : self().at_exit) {
      if (place == what) return;
      if (place == nullptr) {
        place = what;
        return;
      }
    }
    fail("a thread has at most 4 functions to call at its end");
  }
  void vanish_others() {
    forked_ = true;
    for (std::size_t i = 1; i < most_threads; ++i) {
      fiber& f = fibers_[i];
      if (&f != &self() && f.now != fiber::state::absent && f.now != fiber::state::done) {
        f.now = fiber::state::vanished;
      }
    }
  }
  void vanish_frames() {
    for (fiber& f : fibers_) {
      if (f.now == fiber::state::vanished) f.now = fiber::state::done;
    }
  }
  int faults() const noexcept { return faults_; }
  /// Adds to the running thread's count of `spared` scopes; outside of schedules there is no
  /// thread.
  void spare(int n) noexcept {
    if (running_ >= 0) self().spared += n;
  }
  bool set_eternal(bool is) noexcept {
    return running_ >= 0 ? std::exchange(self().eternal, is) : false;
  }
  void* slot(std::size_t id, bool& fresh) {
    fiber& me = running_ < 0 ? nobody_ : self();
    fresh = (me.slots_in_use >> id & 1U) == 0;
    me.slots_in_use |= 1U << id;
    return me.slots.at(id).data();
  }

  /// Thread 0, which made the world, lets the others run to their end.
  void run_all() {
    const int first = next_thread();
    if (first > 0) go_to(first);
  }

  [[noreturn]] void fail(const std::string& why) {
    user_code = false;  // the report must not use the schedule's memory
    note_failure(why);
    running_ = -1;
    context::jump_fcontext(explorer_, nullptr);
    std::abort();
  }

  // ---- memory -----------------------------------------------------------------------------------

  void* allocate(std::size_t bytes) {
    void* const p = arenas_[static_cast<std::size_t>(running_)].allocate(
        bytes, self().eternal ? arena::eternal : arena::living);
    if (p == nullptr) fail("a thread may allocate 1 MiB in a schedule");
    return p;
  }
  /// Returns false if the memory is not from an arena.
  bool release(void* p) {
    for (arena& a : arenas_) {
      if (!a.owns(p)) continue;
      if (running_ < 0) return true;
      if (a.state_of(p) == arena::freed) fail("memory is freed twice");
      a.release(p);
      return true;
    }
    return false;
  }

 private:
  fiber& self() noexcept { return fibers_[static_cast<std::size_t>(running_)]; }
  std::uint64_t most_schedules() const noexcept {
    return bounds_.random_schedules != 0 ? bounds_.random_schedules : bounds_.schedules;
  }

  void begin_search(const body& what, const limits& bounds) {
    bounds_ = bounds;
    what_ = &what;
    report_ = {};
    random_.seed(bounds.seed);
    path_.clear();
    users_.clear();
    states_.clear();
    visited_.clear();
    longest_ = 20;
  }
  report finish() {
    report_.states = states_.size();
    return std::exchange(report_, {});
  }

  void run_schedule() {
    ++report_.schedules;
    ++epoch_;
    depth_ = 0;
    blind_ = forked_ = false;
    preemptions_ = faults_ = 0;
    clock_ = std::int64_t{1} << 40;
    history_.clear();
    versions_.clear();
    state_ = 0;
    taken_ = 0;
    for (arena& a : arenas_) a.clear();
    for (fiber& f : fibers_) {
      f.now = fiber::state::absent;
      f.what = nullptr;
      f.slots_in_use = 0;
      f.steps = 0;
      f.exceptions = {};
      f.helper = f.eternal = false;
      f.spared = f.pauses = 0;
      f.at_exit = {};
    }
    if (bounds_.random_schedules != 0) {
      path_.clear();
      changes_.clear();
      for (int i = 0; i < bounds_.preemptions; ++i) changes_.insert(1 + random_() % longest_);
    }
    fiber& first = fibers_[0];
    first.what = [this] {
      world w;
      (*what_)(w);
    };
    first.suspended_at =
        context::make_fcontext(first.stack + stack_bytes, stack_bytes, &scheduler::enter);
    first.now = fiber::state::ready;
    const exception_state outside = exceptions_of_system_thread();
    running_ = 0;
    exceptions_of_system_thread() = {};
    leaving_ = -1;
    context::jump_fcontext(first.suspended_at, nullptr);
    running_ = -1;
    user_code = false;
    exceptions_of_system_thread() = outside;
    longest_ = std::max(longest_, taken_);
    if (report_.failure.empty()) check_memory();
  }

  /// A world that crashes fails like any other: the signal ends its schedule.
  static void catch_crashes() {
    static std::array<std::byte, std::size_t{64} << 10> stack;
    stack_t alternate{};
    alternate.ss_sp = stack.data();
    alternate.ss_size = stack.size();
    ::sigaltstack(&alternate, nullptr);
    struct sigaction action {};
    action.sa_handler = [](int signal) {
      if (made->running_ < 0) {
        ::signal(signal, SIG_DFL);
        ::raise(signal);
        return;
      }
      made->fail(signal == SIGABRT ? "the program gives up (abort, terminate)"
                                   : "memory that is not mapped is used");
    };
    action.sa_flags = SA_ONSTACK | SA_NODEFER;
    for (const int signal : {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE}) {
      ::sigaction(signal, &action, nullptr);
    }
  }

  static void enter(context::transfer_t from) { instance().live(from); }
  [[noreturn]] void live(context::transfer_t from) {
    came_from(from);
    const int index = running_;
    user_code = true;
    try {
      self().what();
    } catch (...) {
      fail("an exception has escaped from a thread");
    }
    for (const auto what : self().at_exit) {
      if (what != nullptr) what();
    }
    user_code = false;
    self().what = nullptr;
    self().now = fiber::state::done;
    if (index == 0) {
      running_ = -1;
      context::jump_fcontext(explorer_, nullptr);
    }
    wake(&self(), 0x7fffffff, ~0U, std::source_location::current());
    took_step(op::end, nullptr, std::source_location::current());
    go_to(next_thread());
    std::abort();
  }

  /// Records where the thread that has just jumped here is suspended.
  void came_from(context::transfer_t from) noexcept {
    if (leaving_ < 0) {
      explorer_ = from.fctx;
    } else {
      fibers_[static_cast<std::size_t>(leaving_)].suspended_at = from.fctx;
    }
  }

  void go_to(int next) {
    if (next == running_) {
      self().now = fiber::state::ready;
      return;
    }
    self().exceptions = exceptions_of_system_thread();
    leaving_ = running_;
    running_ = next;
    if (self().now != fiber::state::done) self().now = fiber::state::ready;
    exceptions_of_system_thread() = self().exceptions;
    const context::transfer_t back = context::jump_fcontext(self().suspended_at, nullptr);
    came_from(back);
  }

  std::uint32_t threads_that_are(fiber::state what) const noexcept {
    std::uint32_t mask = 0;
    for (std::size_t i = 1; i < most_threads; ++i) {
      if (fibers_[i].now == what) mask |= 1U << i;
    }
    return mask;
  }

  /// Called for a thread that cannot continue: which one runs instead; 0 when all others are done.
  int next_thread() {
    std::uint32_t able = threads_that_are(fiber::state::ready);
    const bool over = able == 0 && only_idle_helpers_sleep();
    if (able == 0 && !over) able = pass_time();  // also while others spin, maybe for a sleeper
    if (able == 0) able = threads_that_are(fiber::state::paused);
    if (able == 0) {
      if (!over) fail(deadlock());
      return 0;
    }
    if (replaying_) {
      const int next = forced_thread();
      return next > 0 && (able >> next & 1U) != 0 ? next : std::countr_zero(able);
    }
    return pick(able, -1);
  }
  bool only_idle_helpers_sleep() const noexcept {
    return std::none_of(fibers_.begin() + 1, fibers_.end(), [](const fiber& f) {
      return f.now == fiber::state::paused ||
             (f.now == fiber::state::asleep && (!f.helper || !f.idle || f.deadline));
    });
  }
  /// A schedule is written as the thread of each step, or for a choice as fault_mark + the choice.
  static constexpr int fault_mark = 100;
  int forced_step() const noexcept { return taken_ < forced_.size() ? forced_[taken_] : -1; }
  int forced_thread() const noexcept {
    const int next = forced_step();
    return next >= fault_mark ? running_ : next;
  }
  /// Called for a thread that could continue.
  void let_others_in() {
    const std::uint32_t me = 1U << static_cast<unsigned>(running_);
    const std::uint32_t able = threads_that_are(fiber::state::ready) | me;
    if (able == me) return;
    const int next = pick(able, running_);
    if (next == running_) return;
    ++preemptions_;
    go_to(next);
  }
  int pick(std::uint32_t able, int usual) {
    if (bounds_.random_schedules != 0) {
      if (usual >= 0 && !changes_.empty() && *changes_.begin() <= taken_) {
        changes_.erase(changes_.begin());
        self().priority = random_() % 1000;
      }
      int best = -1;
      for (int i = 1; i < static_cast<int>(most_threads); ++i) {
        if ((able >> i & 1U) != 0 &&
            (best < 0 || fibers_[static_cast<std::size_t>(i)].priority >
                             fibers_[static_cast<std::size_t>(best)].priority)) {
          best = i;
        }
      }
      path_.push_back({.options = able,
                       .tried = 0,
                       .taken = best,
                       .usual = usual,
                       .spent = 0,
                       .fault = false,
                       .open = false});
      ++depth_;
      return best;
    }
    return decide(able, usual, preemptions_, false);
  }

  /// Which of several sleepers is woken by a wake-up of one.
  int which_of(std::uint32_t sleepers, const std::source_location& line) {
    int taken = std::countr_zero(sleepers);
    if (replaying_) {
      taken = std::max(taken, forced_step() - fault_mark);
    } else if (bounds_.random_schedules != 0) {
      for (auto skip = random_() % static_cast<std::uint64_t>(std::popcount(sleepers)); skip > 0;
           --skip) {
        sleepers &= sleepers - 1;
      }
      taken = std::countr_zero(sleepers);
    } else if (exploring()) {
      taken = decide(sleepers, -1, 0, false);
    }
    took_step(op::choose, nullptr, line, taken);
    return taken;
  }
  int choose_at_random(int n) {
    if (faults_ >= bounds_.faults || random_() % 32 != 0) return 0;
    return static_cast<int>(1 + random_() % static_cast<std::uint64_t>(n - 1));
  }
  int decide(std::uint32_t options, int usual, int spent, bool fault) {
    if (std::has_single_bit(options)) return std::countr_zero(options);
    if (depth_ < path_.size()) {
      const int taken = path_[depth_++].taken;
      if ((options >> taken & 1U) == 0) fail("the world is not deterministic: a choice is missing");
      return taken;
    }
    if (!blind_) {
      // A state that was seen with no more spent than now leads nowhere new: explore it no further.
      const std::uint64_t key = mix(mix(mix(state_, static_cast<std::uint64_t>(usual + 1)),
                                        static_cast<std::uint64_t>(running_)),
                                    static_cast<std::uint64_t>(faults_) * 2 + (fault ? 1U : 0U)) ^
                                mix(options, static_cast<std::uint64_t>(clock_));
      const auto [at, added] = visited_.try_emplace(key, preemptions_);
      if (!added && at->second <= preemptions_) {
        blind_ = true;
      } else {
        at->second = preemptions_;
      }
    }
    const int taken = usual >= 0 ? usual : std::countr_zero(options);
    path_.push_back({.options = options,
                     .tried = 1U << static_cast<unsigned>(taken),
                     .taken = taken,
                     .usual = usual,
                     .spent = spent,
                     .fault = fault,
                     .open = !blind_});
    ++depth_;
    return taken;
  }

  bool next_path() {
    while (!path_.empty()) {
      choice& last = path_.back();
      const bool affordable =
          last.usual < 0 || last.spent < (last.fault ? bounds_.faults : bounds_.preemptions);
      const std::uint32_t left = last.options & ~last.tried;
      if (last.open && affordable && left != 0) {
        last.taken = std::countr_zero(left);
        last.tried |= 1U << static_cast<unsigned>(last.taken);
        return true;
      }
      path_.pop_back();
    }
    return false;
  }

  /// No thread can continue, but time can pass: to the earliest deadline.
  std::uint32_t pass_time() {
    std::int64_t earliest = std::numeric_limits<std::int64_t>::max();
    for (const fiber& f : fibers_) {
      if (f.now == fiber::state::asleep && f.deadline) earliest = std::min(earliest, *f.deadline);
    }
    if (earliest == std::numeric_limits<std::int64_t>::max()) return 0;
    clock_ = std::max(clock_, earliest);
    for (fiber& f : fibers_) {
      if (f.now == fiber::state::asleep && f.deadline && *f.deadline <= clock_) {
        f.now = fiber::state::ready;
        f.timed_out = true;
      }
    }
    return threads_that_are(fiber::state::ready);
  }

  // ---- what happened ----------------------------------------------------------------------------

  /// The state is a sum over the steps taken, each hashed with the last write that it depends on,
  /// so two orders of independent steps have the same sum.
  void took_step(op what, const void* where, const std::source_location& line, int chosen = 0) {
    ++taken_;
    history_.push_back(
        {.thread = running_, .what = what, .where = where, .chosen = chosen, .line = line});
    if (replaying_ && written_late()) fail("memory is written to after its end: before this step");
    std::uint64_t hash =
        mix(mix(static_cast<std::uint64_t>(running_) + 1, self().steps),
            static_cast<std::uint64_t>(what) * 64 + static_cast<std::uint64_t>(chosen));
    if (where != nullptr) {
      std::uint64_t& version = versions_[where];
      hash = mix(hash, version);
      if (what != op::load) version = hash;
    }
    state_ += mix(hash, 0x5bd1e995U);
    if (running_ > 0 && what != op::pause) {
      if (what != op::load) self().pauses = 0;
      for (fiber& f : fibers_) {
        if (f.now != fiber::state::paused) continue;
        f.lets_first &= ~(1U << static_cast<unsigned>(running_));
        if (f.lets_first == 0) f.now = fiber::state::ready;
      }
    }
    if (states_.size() < (std::size_t{1} << 22)) states_.insert(state_);
  }

  /// An address that only one thread has used in all schedules so far is not a place to switch.
  /// When a second thread uses it, the search starts again: within one search the places stay the
  /// same.
  bool is_shared(const void* where) {
    if (where == nullptr) return true;
    user& u = users_[where];
    if (u.thread == 0) u.thread = running_;
    if (u.thread != running_ && u.shared_since == 0) {
      u.shared_since = epoch_ + 1;
      grew_ = true;
    }
    return u.shared_since != 0 && u.shared_since <= epoch_;
  }

  void check_alive(const void* where) {
    for (const arena& a : arenas_) {
      if (a.owns(where) && a.state_of(where) == arena::freed) fail("memory is used after its end");
    }
    for (const fiber& f : fibers_) {  // a frame that has been left
      if (where < f.stack || where >= f.stack + stack_bytes || &f == &self()) continue;
      if (f.now == fiber::state::done || f.now == fiber::state::absent || where < f.suspended_at) {
        fail("a thread's frame is used after its end");
      }
    }
  }

  bool written_late() const {
    bool late = false;
    for (const arena& a : arenas_) {
      a.each([&](const std::byte* p, std::size_t bytes, std::uint8_t state) {
        if (state != arena::freed) return;
        for (std::size_t i = 0; i < bytes; ++i) {
          if (p[i] != static_cast<std::byte>(arena::poison)) late = true;
        }
      });
    }
    return late;
  }
  void check_memory() {
    std::size_t leaks = 0;
    std::size_t bytes_leaked = 0;
    for (const arena& a : arenas_) {
      a.each([&](const std::byte*, std::size_t bytes, std::uint8_t state) {
        if (state != arena::living) return;
        ++leaks;
        bytes_leaked += bytes;
      });
    }
    if (written_late()) note_failure("memory is written to after its end");
    if (leaks != 0 && !forked_) {
      note_failure(std::to_string(leaks) + " blocks are leaked, " + std::to_string(bytes_leaked) +
                   " bytes");
    }
  }

  std::string deadlock() const {
    std::string text = "deadlock: no thread can continue; asleep:";
    for (std::size_t i = 1; i < most_threads; ++i) {
      if (fibers_[i].now != fiber::state::asleep) continue;
      const auto last = std::find_if(history_.rbegin(), history_.rend(), [i](const step& s) {
        return s.thread == static_cast<int>(i);
      });
      text += " thread " + std::to_string(i);
      if (last != history_.rend()) text += " at line " + std::to_string(last->line.line());
    }
    return text;
  }
  void note_failure(const std::string& why) {
    if (!report_.failure.empty()) return;
    report_.failure = why;
    report_.history = history_;
    for (const step& s : history_) {
      report_.choices.push_back(s.what == op::choose ? fault_mark + s.chosen : s.thread);
    }
  }

 public:
  static scheduler& instance() {
    static scheduler one;
    return one;
  }

 private:
  limits bounds_;
  const body* what_ = nullptr;
  report report_;
  std::mt19937_64 random_;
  bool replaying_ = false;
  std::vector<int> forced_;

  std::array<fiber, most_threads> fibers_;
  fiber nobody_;  // code that runs outside of schedules
  std::array<arena, most_threads> arenas_;
  context::fcontext_t explorer_ = nullptr;
  int running_ = -1;
  int leaving_ = -1;
  std::uint64_t epoch_ = 0;
  std::int64_t clock_ = 0;

  std::vector<choice> path_;
  std::size_t depth_ = 0;
  bool blind_ = false;   // from here on, take only the usual alternative
  bool forked_ = false;  // some threads have vanished, with what they owned
  int preemptions_ = 0;
  int faults_ = 0;
  std::unordered_map<std::uint64_t, int> visited_;
  struct user {
    int thread = 0;
    std::uint64_t shared_since = 0;  // from this schedule on it is a place to switch
  };
  std::unordered_map<const void*, user> users_;
  bool grew_ = false;
  std::multiset<std::uint64_t> changes_;  // random search: the steps at which priorities change
  std::uint64_t longest_ = 20;

  std::vector<step> history_;
  std::unordered_map<const void*, std::uint64_t> versions_;
  std::uint64_t state_ = 0;
  std::uint64_t taken_ = 0;
  std::unordered_set<std::uint64_t> states_;
};

scheduler& all() { return scheduler::instance(); }

}  // namespace

const char* name_of(op what) noexcept {
  static constexpr const char* names[] = {"begin", "load", "store", "exchange", "lock", "unlock",
                                          "sleep", "wake", "pause", "choose",   "end"};
  return names[static_cast<std::size_t>(what)];
}

std::string report::text() const {
  std::string all = failure + "\n";
  for (const step& s : history) {
    const std::string_view file = s.line.file_name();
    const std::size_t slash = file.rfind('/');
    all += "  thread " + std::to_string(s.thread) + "  " + name_of(s.what) + "  " +
           std::string(file.substr(slash == std::string_view::npos ? 0 : slash + 1)) + ":" +
           std::to_string(s.line.line()) + "\n";
  }
  all += "replay with {";
  for (const int c : choices) all += std::to_string(c) + ",";
  return all + "}";
}

report explore(const body& what, const limits& bounds) { return all().explore(what, bounds); }
report replay(const body& what, const std::vector<int>& choices, const limits& bounds) {
  return all().replay(what, choices, bounds);
}

void world::thread(std::function<void()> what) {
  const scheduler::inside in;
  all().start(std::move(what), false);
}
void world::run() {
  const scheduler::inside in;
  all().run_all();
}
void world::fail(const std::string& why) { model::fail(why); }

bool exploring() noexcept { return all().exploring(); }
void arrive(op what, const void* where, const std::source_location& line) {
  if (!all().exploring()) return;
  const scheduler::inside in;
  all().arrive(what, where, line);
}
int choose(int n, const std::source_location& line) {
  const scheduler::inside in;
  return all().choose(n, line);
}
void fail(const std::string& why) { all().fail(why); }
bool sleep(const void* where, std::uint32_t channels, const std::int64_t* deadline, sleeps how,
           const std::source_location& line) {
  const scheduler::inside in;
  return all().sleep(where, channels, deadline, how, line);
}
void wake(const void* where, int count, std::uint32_t channels, const std::source_location& line) {
  if (all().this_thread() < 0) return;
  const scheduler::inside in;
  all().wake(where, count, channels, line);
}
void pause(const std::source_location& line) {
  if (!all().exploring()) return;
  const scheduler::inside in;
  all().pause(line);
}
std::int64_t now() noexcept { return all().now(); }
int this_thread() noexcept { return all().this_thread(); }
int start_helper(std::function<void()> what) {
  const scheduler::inside in;
  return all().start(std::move(what), true);
}
void join(int thread, const std::source_location& line) {
  const scheduler::inside in;
  all().join(thread, line);
}
void vanish_others() {
  const scheduler::inside in;
  all().vanish_others();
}
void vanish_frames() {
  const scheduler::inside in;
  all().vanish_frames();
}
void at_thread_exit(void (*what)() noexcept) {
  const scheduler::inside in;
  all().at_thread_exit(what);
}
int faults() noexcept { return all().faults(); }
spared::spared() noexcept { all().spare(1); }
spared::~spared() { all().spare(-1); }
eternal::eternal() noexcept : was_(all().set_eternal(true)) {}
eternal::~eternal() { all().set_eternal(was_); }
void* slot(std::size_t id, bool& fresh) { return all().slot(id, fresh); }
unwatched::unwatched() noexcept : was_(std::exchange(user_code, false)) {}
unwatched::~unwatched() { user_code = was_; }
std::uint64_t epoch() noexcept { return all().epoch(); }

}  // namespace model

// ---- the program's memory: that of the schedule, while one runs ---------------------------------

namespace {
void* allocate(std::size_t bytes) {
  if (model::user_code) {
    const model::scheduler::inside in;
    if (model::made->choose(2, std::source_location::current()) == 1) throw std::bad_alloc();
    return model::made->allocate(bytes);
  }
  void* const p = std::malloc(bytes);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}
void release(void* p) noexcept {
  if (p == nullptr) return;
  if (model::made == nullptr) {
    std::free(p);
    return;
  }
  const model::scheduler::inside in;
  if (!model::made->release(p)) std::free(p);
}
}  // namespace

void* operator new(std::size_t bytes) { return allocate(bytes); }
void* operator new(std::size_t bytes, std::align_val_t) { return allocate(bytes); }
void operator delete(void* p) noexcept { release(p); }
void operator delete(void* p, std::size_t) noexcept { release(p); }
void operator delete(void* p, std::align_val_t) noexcept { release(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { release(p); }
