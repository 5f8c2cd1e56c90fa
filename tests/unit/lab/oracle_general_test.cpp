// SPDX-License-Identifier: Apache-2.0
#include "lab/log/oracle_general.hpp"

#include <gtest/gtest.h>

#include <string>

namespace singleflight::lab {
namespace {

const std::string record("\x05\0\0\0\x11\0\0\0\0\0\0\x80\0\x10\0\0\xff\xff\xff\xff\xff\xff\xff\xff",
                         oracle_general_record::size_in_bytes);

TEST(oracle_general, one_record) {
  const auto read = oracle_general_record::from(record);
  EXPECT_EQ(read.time, 5U);
  EXPECT_EQ(read.object, 0x8000000000000011U);
  EXPECT_EQ(read.bytes, 4096U);
  EXPECT_EQ(read.next, -1);
}

// Goal    A text is not taken for such a trace, nor are records whose times go backwards.
TEST(oracle_general, what_looks_like_it) {
  EXPECT_TRUE(looks_like_oracle_general(record));
  EXPECT_TRUE(looks_like_oracle_general(record + record));
  auto earlier = record;
  earlier[0] = '\x04';
  EXPECT_FALSE(looks_like_oracle_general(record + earlier));
  EXPECT_FALSE(looks_like_oracle_general(""));
  EXPECT_FALSE(looks_like_oracle_general("192.0.2.7 - - [01/Mar/2024:12:00:00 +0000]"));
  EXPECT_FALSE(looks_like_oracle_general(std::string(48, '\0')));
}

}  // namespace
}  // namespace singleflight::lab
