// SPDX-License-Identifier: Apache-2.0
#include "lab/backend/bounded_backend.hpp"

#include <algorithm>
#include <utility>

namespace singleflight::lab {

namespace {

/// patience_alarm: requests a stop when the patience of all callers has expired, or on end(). A
/// deadline of the wait could not be extended, and a new wait with a later one would lose its place
/// in the queue.
class patience_alarm : private timer_node {
 public:
  patience_alarm(timer& clock, const patience& until)
      : timer_node([](timer_node& node) noexcept { static_cast<patience_alarm&>(node).check(); }),
        clock_(clock),
        until_(until) {
    check();
  }
  patience_alarm(const patience_alarm&) = delete;
  patience_alarm& operator=(const patience_alarm&) = delete;
  ~patience_alarm() { clock_.cancel(*this); }

  void end() noexcept { over_.request_stop(); }
  std::stop_token token() const { return over_.get_token(); }

 private:
  void check() {
    const auto limit = until_();
    if (limit == steady_time::max()) return;
    if (limit <= clock_.now()) return end();
    clock_.arm(*this, limit);
  }

  timer& clock_;
  const patience& until_;
  std::stop_source over_;
};

}  // namespace

row bounded_backend::load(const std::string& key, const patience& until) {
  const permit turn = take_turn(until);
  return asked_.load(key, until);
}

permit bounded_backend::take_turn(const patience& until) {
  if (auto turn = turns_.try_acquire()) return turn;
  const auto since = clock_.now();
  patience_alarm alarm(clock_, until);
  const std::stop_callback on_interrupt(interrupted_.get_token(), [&alarm] { alarm.end(); });
  auto turn = turns_.acquire(as_outcome, 1, {.stop = alarm.token()});
  if (!turn && interrupted_.stop_requested()) throw load_interrupted();
  {
    const auto waited = clock_.now() - since;
    const std::scoped_lock lock(mutex_);
    ++counts_.queued;
    if (!turn) ++counts_.gave_up;
    counts_.waited += waited;
    counts_.longest = std::max<std::chrono::nanoseconds>(counts_.longest, waited);
  }
  if (!turn) throw no_connection("its turn did not come before the deadline (--max-loads)");
  return std::move(turn).value();
}

void bounded_backend::interrupt() noexcept {
  interrupted_.request_stop();
  asked_.interrupt();
}

bounded_backend::queue_counts bounded_backend::queue() const {
  const std::scoped_lock lock(mutex_);
  return counts_;
}

}  // namespace singleflight::lab
