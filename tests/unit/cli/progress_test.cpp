// SPDX-License-Identifier: Apache-2.0
#include "cli/progress.hpp"

#include <gtest/gtest.h>

namespace singleflight::cli {
namespace {

using namespace std::chrono_literals;

TEST(progress, its_line) {
  EXPECT_EQ(cli::progress_line("flight", 0, 2000, 0s),
            "flight   [>                             ]   0 %  0 of 2,000");
  EXPECT_EQ(cli::progress_line("none", 1000, 2000, 10s),
            "none     [===============>              ]  50 %  1,000 of 2,000  about 11.0 s left");
  EXPECT_EQ(cli::progress_line("none", 2000, 2000, 10s),
            "none     [==============================] 100 %  2,000 of 2,000");
}

}  // namespace
}  // namespace singleflight::cli
