// SPDX-License-Identifier: Apache-2.0
#include "lab/hit_ratio_command.hpp"

#include <gtest/gtest.h>

#include "cli/usage_error.hpp"
#include "lab/hit_ratio/request_trace.hpp"
#include "support/scratch_folder.hpp"

namespace singleflight::lab {
namespace {

std::string refusal(const hit_ratio_arguments& arguments) {
  try {
    check_options(arguments);
  } catch (const cli::usage_error& error) {
    return error.what();
  }
  return {};
}

TEST(hit_ratio_options, defaults) {
  hit_ratio_arguments arguments;
  arguments.log = "-";
  const auto options = check_options(arguments);
  EXPECT_EQ(options.log.at_most, request_trace::most_requests);
  ASSERT_EQ(options.capacities.size(), 3U);
  EXPECT_EQ(options.capacities[1].of(1000), 50U);
  EXPECT_EQ(options.log.how.key.from, key_choice::part::automatic);
}

TEST(hit_ratio_options, what_was_typed) {
  hit_ratio_arguments arguments;
  arguments.log = "x";
  arguments.key_from = "field=2";
  arguments.requests = "1000";
  arguments.capacity = "7";
  const auto options = check_options(arguments);
  EXPECT_EQ(options.log.how.key.field, 2U);
  EXPECT_EQ(options.log.at_most, 1000U);
  EXPECT_EQ(options.capacities.front().entries, 7U);
  arguments.requests = "all";
  EXPECT_EQ(check_options(arguments).log.at_most, request_trace::most_requests);
}

// Goal    Absurd values are refused, in one line that names the option.
TEST(hit_ratio_options, absurd_values) {
  EXPECT_EQ(refusal(hit_ratio_arguments{}), "hit-ratio needs a log; add --log FILE");
  const support::scratch_folder folder;
  hit_ratio_arguments fine;
  fine.log = folder.write("log", "a\n");
  const std::vector<std::pair<std::string hit_ratio_arguments::*, std::string>> absurd{
      {&hit_ratio_arguments::key_from, "colour"}, {&hit_ratio_arguments::requests, "0"},
      {&hit_ratio_arguments::requests, "1e3"},    {&hit_ratio_arguments::capacity, "0%"},
      {&hit_ratio_arguments::json, "-"},          {&hit_ratio_arguments::report, "-"},
      {&hit_ratio_arguments::json, fine.log},     {&hit_ratio_arguments::report, fine.log},
      {&hit_ratio_arguments::capacity, "5%,5%"}};
  for (const auto& [member, value] : absurd) {
    auto arguments = fine;
    arguments.*member = value;
    const auto what = refusal(arguments);
    EXPECT_TRUE(what.starts_with("--")) << value << ": " << what;
    EXPECT_EQ(what.find('\n'), std::string::npos);
  }
  fine.json = folder.file("out");
  fine.report = folder.file("./out");
  EXPECT_NE(refusal(fine).find("same file"), std::string::npos);
}

}  // namespace
}  // namespace singleflight::lab
