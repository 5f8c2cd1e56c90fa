// SPDX-License-Identifier: Apache-2.0
#include "lab/log/statement_text.hpp"

#include <gtest/gtest.h>

namespace singleflight::lab {
namespace {

std::string redis_key(std::string_view command) {
  std::string key;
  return key_of_redis_command(command, key) ? key : "(none)";
}

std::string postgres_statement(std::string_view message) {
  std::string statement;
  return statement_of_postgres(message, statement) ? statement : "(none)";
}

TEST(statement_text, keys_of_redis_commands) {
  EXPECT_EQ(redis_key(R"("GET" "user:1")"), "user:1");
  EXPECT_EQ(redis_key(R"("setex" "a \"b\" \\ \x41\n" "60" "v")"), "a \"b\" \\ A\n");
  EXPECT_EQ(redis_key(R"("EVALSHA" "0123" "2" "k1" "k2" "arg")"), "k1");
  for (const char* command :
       {R"("PING")", R"("select" "3")", R"("EVAL" "return 1" "0")", "", "GET", R"("GET" "")"}) {
    EXPECT_EQ(redis_key(command), "(none)") << command;
  }
}

TEST(statement_text, statements_of_postgres) {
  EXPECT_EQ(postgres_statement("duration: 0.1 ms  statement: SELECT\n  1 "), "SELECT 1");
  EXPECT_EQ(postgres_statement("execute S_1/C_2: SELECT 'a  b'"), "SELECT 'a  b'");
  EXPECT_EQ(postgres_statement("duration: 0.1 ms  parse <unnamed>: SELECT 1"), "(none)");
  EXPECT_EQ(postgres_statement("checkpoint starting: time"), "(none)");
}

// Goal    White space is one space outside quotes, and as it is within them.
TEST(statement_text, in_one_line) {
  std::string line;
  in_one_line("\n select \t a,\r\n 'b\n c' from `t  u` ", line);
  EXPECT_EQ(line, "select a, 'b\n c' from `t  u`");
}

}  // namespace
}  // namespace singleflight::lab
