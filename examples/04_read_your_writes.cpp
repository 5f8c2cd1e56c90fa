// SPDX-License-Identifier: Apache-2.0
//
// A caller writes a row while a load of it runs, and reads it again. Joining that load could return
// the row as it was before the write; run_fresh and start_fresh wait behind it, and share a load
// that begins after the call.

#include <atomic>
#include <cstdio>
#include <latch>
#include <string>

#include <singleflight/flight.hpp>

int main() {
  std::atomic<int> row = 1;  // the database
  std::latch has_read(1);
  std::latch may_answer(1);
  singleflight::group<std::string, int> rows;

  auto earlier = rows.start("row:7", [&] {
    const int value = row;
    has_read.count_down();
    may_answer.wait();  // a slow query
    return value;
  });
  has_read.wait();

  row = 2;  // the write

  const auto read = [&] { return row.load(); };
  auto joined = rows.start("row:7", read);       // shares the load that read before the write
  auto fresh = rows.start_fresh("row:7", read);  // waits behind it
  auto also_fresh = rows.start_fresh("row:7", read);

  may_answer.count_down();
  const auto old_row = joined.get();
  const auto new_row = fresh.get();
  std::printf("joined: %d   fresh: %d, shared by %zu\n", *old_row, *new_row, new_row.callers());

  // The blocking form. Nothing is in flight now, so it loads like run.
  const bool blocking = *rows.run_fresh("row:7", read) == 2;
  return *earlier.get() == 1 && *old_row == 1 && *new_row == 2 && *also_fresh.get() == 2 &&
                 blocking && rows.stats().loads == 3
             ? 0
             : 1;
}
