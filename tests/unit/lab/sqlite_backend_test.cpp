// SPDX-License-Identifier: Apache-2.0
#include "lab/backend/sqlite_backend.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <latch>
#include <thread>

#include "cli/usage_error.hpp"
#include "lab/backend/shop.hpp"
#include "support/scratch_folder.hpp"
#include "unit/lab/forever.hpp"

namespace singleflight::lab {
namespace {

using testing::HasSubstr;
using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

// While slow_step is held, the query "gate" does not continue.
std::latch* entered = nullptr;
std::latch* released = nullptr;

void gate(sqlite3_context* context, int /*count*/, sqlite3_value** /*arguments*/) {
  if (entered != nullptr) entered->count_down();
  if (released != nullptr) released->wait();
  sqlite3_result_int(context, 1);
}

void add_gate(sqlite3* database) {
  sqlite3_create_function(database, "gate", 0, SQLITE_UTF8, nullptr, gate, nullptr, nullptr);
}

class sqlite_backend_test : public testing::Test {
 protected:
  sqlite_backend_test() {
    sqlite_connection writer({path_, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE});
    writer.execute(
        "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);"
        "INSERT INTO users VALUES (1, 'Ann'), (2, 'Bob'), (3, NULL);");
  }

  std::string refusal(const std::string& query) {
    try {
      sqlite_backend({path_, query, 1});
    } catch (const cli::usage_error& error) {
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
      return error.what();
    }
    return "(none)";
  }

  support::scratch_folder folder_;
  std::string path_ = folder_.file("users.db");
};

TEST_F(sqlite_backend_test, answers) {
  sqlite_backend users({path_, "SELECT id, name FROM users WHERE id = :key;  ", 2});
  EXPECT_EQ(users.connections(), 2U);
  EXPECT_EQ(users.load("1", forever).text, "1\tAnn\n");
  EXPECT_EQ(users.load("3", forever).text, "3\t\n");
  EXPECT_EQ(users.load("4", forever).rows, 0U);
  EXPECT_EQ(users.load("' OR 1 = 1 --", forever).rows, 0U);
}

TEST_F(sqlite_backend_test, bad_queries_are_refused_up_front) {
  EXPECT_THAT(refusal("SELEKT 1"), HasSubstr("syntax error"));
  EXPECT_THAT(refusal("SELECT * FROM nowhere WHERE id = :key"), HasSubstr("no such table"));
  EXPECT_THAT(refusal("SELECT * FROM users"), HasSubstr("no parameter :key"));
  EXPECT_THAT(refusal("SELECT * FROM users WHERE id = ?"), HasSubstr("no parameter :key"));
  EXPECT_THAT(refusal("SELECT * FROM users WHERE id = :key AND name = :name"),
              HasSubstr("parameters other than :key"));
  EXPECT_THAT(refusal("SELECT :key; SELECT 2"), HasSubstr("more than one"));
  EXPECT_THAT(refusal("DELETE FROM users WHERE id = :key"), HasSubstr("not a query that reads"));
  EXPECT_THAT(refusal("INSERT INTO users VALUES (9, :key) RETURNING id"),
              HasSubstr("not a query that reads"));
  EXPECT_THAT(refusal("ATTACH :key AS other"), HasSubstr("not a query that reads"));
  EXPECT_THAT(refusal(""), HasSubstr("not a query that reads"));
  EXPECT_THAT(refusal("-- nothing"), HasSubstr("not a query that reads"));
}

TEST_F(sqlite_backend_test, a_file_that_is_not_a_database) {
  const auto text = folder_.write("text.db", std::string(10'000, 'x'));
  EXPECT_THROW(sqlite_backend({text, "SELECT :key", 1}), cli::usage_error);
  EXPECT_THROW(sqlite_backend({folder_.file("missing.db"), "SELECT :key", 1}), cli::usage_error);
  EXPECT_EQ(folder_.files(), 2U);  // the missing file was not created
}

TEST_F(sqlite_backend_test, failures_are_named) {
  sqlite_backend users({path_, "SELECT abs(-9223372036854775807 - length(:key))", 1});
  try {
    users.load("k", forever);
    FAIL();
  } catch (const backend_error& error) {
    EXPECT_EQ(error.kind(), "sqlite_error");
    EXPECT_THAT(error.what(), HasSubstr("overflow"));
  }
  EXPECT_EQ(users.load("", forever).rows, 1U);  // the connection is usable again
}

// Goal    A load waits for a connection until its patience expires, and no longer; a load with more
//         patience gets the connection.
// Method  The only connection runs a query that does not return until the test permits it.
TEST_F(sqlite_backend_test, waits_for_a_connection) {
  std::latch in(1);
  std::latch out(1);
  entered = &in;
  released = &out;
  sqlite_backend one({path_, "SELECT gate() + length(:key)", 1, "one", 0, add_gate});
  std::jthread holder([&] { one.load("a", forever); });
  in.wait();
  entered = nullptr;
  EXPECT_THROW(one.load("b", [] { return clock::now() - 1ms; }), no_connection);
  // Patience that grows while it waits.
  int asked = 0;
  std::jthread patient([&] {
    EXPECT_EQ(one.load("c",
                       [&] {
                         ++asked;
                         if (asked == 1) return clock::now();
                         if (asked == 2) out.count_down();
                         return forever();
                       })
                  .rows,
              1U);
  });
  patient.join();
  holder.join();
  released = nullptr;
  EXPECT_GE(asked, 2);
}

TEST_F(sqlite_backend_test, interrupt_ends_what_runs_and_what_waits) {
  sqlite_backend one({path_,
                      "WITH RECURSIVE n(i) AS (SELECT gate() UNION ALL SELECT i + 1 FROM n) SELECT "
                      "max(i), :key FROM n",
                      1, "endless", 0, add_gate});
  std::latch in(1);
  entered = &in;
  const auto expect_interrupted = [&] {
    try {
      one.load("k", forever);
      ADD_FAILURE();
    } catch (const backend_error& error) {
      EXPECT_EQ(error.kind(), "interrupted");
    }
  };
  std::jthread running(expect_interrupted);
  in.wait();
  entered = nullptr;
  std::jthread waiting(expect_interrupted);
  one.interrupt();
  running.join();
  waiting.join();
  expect_interrupted();
}

// Goal    The embedded shop answers every key, leaves no file behind, and has the same content each
//         time.
TEST(shop, answers_any_key) {
  const auto shop = open_shop(2);
  const auto again = open_shop(1);
  EXPECT_EQ(shop->load("1", forever).rows, 10U);
  EXPECT_EQ(shop->load("/products/42?x", forever).rows, 10U);
  EXPECT_EQ(shop->load("", forever).rows, 10U);
  EXPECT_EQ(shop->load("250", forever).text, again->load("250", forever).text);
  EXPECT_NE(shop->load("1", forever).text, shop->load("2", forever).text);
}

}  // namespace
}  // namespace singleflight::lab
