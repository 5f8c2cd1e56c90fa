// SPDX-License-Identifier: Apache-2.0
#include "lab/options.hpp"

#include <gtest/gtest.h>

#include "cli/usage_error.hpp"
#include "support/scratch_folder.hpp"

namespace singleflight::lab {
namespace {

using namespace std::chrono_literals;

std::string refusal(const lab_arguments& arguments) {
  try {
    check_options(arguments);
  } catch (const cli::usage_error& error) {
    return error.what();
  }
  return {};
}

TEST(options, defaults) {
  const auto options = check_options(lab_arguments{});
  EXPECT_EQ(options.protections, (std::vector<std::string>{"none", "flight"}));
  EXPECT_EQ(options.pace.callers, 50U);
  EXPECT_FALSE(options.pace.open());
  EXPECT_EQ(options.backend.connections, 4U);
  EXPECT_TRUE(options.backend.database.empty());
  EXPECT_FALSE(options.backend.delay);
  EXPECT_FALSE(options.injected.any());
  EXPECT_FALSE(options.guards.any());
  EXPECT_FALSE(options.cache);
  EXPECT_FALSE(options.deadline);
}

TEST(options, what_was_typed) {
  lab_arguments arguments;
  arguments.log = "-";
  arguments.speed = "2.5";
  arguments.backend = "delay:20ms";
  arguments.protect = "flight";
  arguments.deadline = "1.5s";
  arguments.requests = "all";
  arguments.fail = "5%";
  arguments.slow = "0.5%:2s";
  arguments.seed = "7";
  arguments.retry = "5";
  arguments.breaker = "12.5%";
  arguments.max_loads = "8";
  const auto options = check_options(arguments);
  EXPECT_EQ(options.pace.form, pacing::loop::log_times);
  EXPECT_EQ(options.backend.delay, 20ms);
  EXPECT_EQ(options.deadline, 1500ms);
  EXPECT_TRUE(options.all_requests);
  EXPECT_DOUBLE_EQ(options.injected.fail_share, 0.05);
  EXPECT_DOUBLE_EQ(options.injected.slow_share, 0.005);
  EXPECT_EQ(options.injected.slow_by, 2s);
  EXPECT_EQ(options.seed, 7U);
  EXPECT_EQ(options.guards.attempts, 5U);
  EXPECT_EQ(options.guards.error_rate, 0.125);
  EXPECT_EQ(options.guards.max_loads, 8U);
}

// Goal    More requests than a workload may have can be simulated, but not replayed.
TEST(options, many_requests) {
  lab_arguments arguments;
  arguments.log = "shop.log";
  arguments.requests = "20000000";
  EXPECT_EQ(check_options(arguments).log.at_most, 20'000'000U);
  arguments.replay = true;
  EXPECT_THROW(check_options(arguments), cli::usage_error);
  arguments.requests.clear();
  EXPECT_EQ(check_options(arguments).log.at_most, most_requests);
}

TEST(options, a_cache) {
  lab_arguments arguments;
  arguments.protect = "none,cache";
  auto options = check_options(arguments);
  ASSERT_TRUE(options.cache);
  EXPECT_EQ(options.cache->capacity, 10'000U);
  EXPECT_EQ(options.cache->describe(), "at most 10,000 entries; fresh forever");
  arguments.capacity = "1";
  arguments.ttl = "10s";
  arguments.refresh_after = "500ms";
  arguments.stale_if_error = "1m";
  options = check_options(arguments);
  EXPECT_EQ(options.cache->ttl, 10s);
  EXPECT_EQ(options.cache->refresh_after, 500ms);
  EXPECT_EQ(options.cache->stale_if_error, 60s);
  EXPECT_EQ(options.cache->describe(),
            "at most 1 entry; fresh for 10.0 s; refreshed after 500 ms; stale for 60.0 s more if "
            "loads fail");
}

// Goal    Options of the cache are refused without it, and where they would have no effect.
TEST(options, bad_cache_options) {
  for (const auto member : {&lab_arguments::capacity, &lab_arguments::ttl,
                            &lab_arguments::refresh_after, &lab_arguments::stale_if_error}) {
    for (const char* value : {"", "0", "-1", "5%", "5s5", "0s", "nan", "10000001", "1e9h"}) {
      lab_arguments arguments;
      arguments.*member = *value == '\0' ? "10" : value;
      EXPECT_NE(refusal(arguments).find("is for the protection cache"), std::string::npos);
      if (*value == '\0') continue;
      arguments.protect = "cache";
      if (member == &lab_arguments::stale_if_error) arguments.ttl = "1s";
      const auto what = refusal(arguments);
      EXPECT_TRUE(what.starts_with("--")) << value << ": " << what;
      EXPECT_NE(what.find("for example --"), std::string::npos) << what;
    }
  }
  lab_arguments arguments;
  arguments.protect = "cache";
  arguments.refresh_after = "5s";
  EXPECT_EQ(refusal(arguments), "");
  arguments.ttl = "5s";
  EXPECT_TRUE(refusal(arguments).starts_with("--refresh-after is not shorter than --ttl"));
  arguments.refresh_after = "";
  arguments.stale_if_error = "5s";
  EXPECT_EQ(refusal(arguments), "");
  arguments.ttl = "";
  EXPECT_TRUE(refusal(arguments).starts_with("--stale-if-error needs"));
}

// Goal    A log is simulated unless it is to be replayed, or has no times, which is known once it
//         is read.
TEST(options, simulated_or_replayed) {
  lab_arguments arguments;
  arguments.log = "-";
  arguments.ttl = "10s";
  arguments.load_time = "lognormal:1ms,p99=1s";
  arguments.processes = "3";
  arguments.fleet = "one";
  auto options = check_options(arguments);
  EXPECT_TRUE(options.simulates_times);
  EXPECT_TRUE(options.protections.empty());
  EXPECT_EQ(options.simulated.processes, 3U);
  EXPECT_TRUE(options.simulated.one_fleet);
  EXPECT_EQ(options.simulated.load_time->middle(), 1ms);
  auto copy = options;
  settle(copy, true);
  EXPECT_EQ(copy.protections, (std::vector<std::string>{"none", "flight", "cache-alone", "cache"}));
  EXPECT_EQ(copy.cache->ttl, 10s);
  EXPECT_THROW(settle(options, false), cli::usage_error);

  lab_arguments no_times;
  no_times.log = "-";
  no_times.ttl = "10s";
  options = check_options(no_times);
  settle(options, false);
  EXPECT_EQ(options.protections, (std::vector<std::string>{"none", "flight", "cache"}));

  lab_arguments guarded;
  guarded.log = "-";
  guarded.retry = "3";
  options = check_options(guarded);
  EXPECT_THROW(settle(options, true), cli::usage_error);
  EXPECT_NO_THROW(settle(options, false));

  for (const auto member : {&lab_arguments::callers, &lab_arguments::rate, &lab_arguments::speed}) {
    lab_arguments paced;
    paced.log = "-";
    paced.*member = "5";
    EXPECT_FALSE(check_options(paced).simulates_times);
  }
  lab_arguments replayed;
  replayed.log = "-";
  replayed.replay = true;
  options = check_options(replayed);
  EXPECT_FALSE(options.simulates_times);
  EXPECT_EQ(options.protections, (std::vector<std::string>{"none", "flight"}));
}

// Goal    Absurd values are refused, in one line that names the option.
TEST(options, absurd_values) {
  const std::vector<std::pair<std::string lab_arguments::*, std::vector<std::string>>> absurd{
      {&lab_arguments::callers, {"0", "-1", "1000000", "many", "1e9", "99999999999999999999"}},
      {&lab_arguments::rate, {"0", "-5", "nan", "inf", "1e300", "fast"}},
      {&lab_arguments::deadline, {"0ms", "-1s", "500", "nanms", "1e300s", "9999h"}},
      {&lab_arguments::connections, {"0", "-1", "1001", "few"}},
      {&lab_arguments::requests, {"0", "-1", "1e3", "99999999999", "all"}},
      {&lab_arguments::seed, {"-1", "x"}},
      {&lab_arguments::protect, {"umbrella", "none,", ",", "none,none", "None"}},
      {&lab_arguments::backend, {"delay", "delay:", "delay:-1ms", "delay:5", "redis:x"}},
      {&lab_arguments::generate, {"cold", "zipf:skew=-1"}},
      {&lab_arguments::fail, {"5", "0.05", "150%", "-1%", "abc", "%", "nan%"}},
      {&lab_arguments::slow,
       {"1%", "1%:", ":2s", ":", "1:2s", "101%:2s", "1%:2", "1%:-2s", "1%:2h", "2s:1%",
        "1%:2s:3s"}},
      {&lab_arguments::retry, {"0", "-1", "101", "1.5", "true", "often"}},
      {&lab_arguments::breaker, {"0%", "150%", "-1%", "50", "0.5", "%", "nan%", "true"}},
      {&lab_arguments::max_loads, {"0", "-1", "10001", "x", "1e3", "99999999999999999999"}},
      {&lab_arguments::json, {"-"}},
      {&lab_arguments::report, {"-"}},
  };
  for (const auto& [member, values] : absurd) {
    for (const auto& value : values) {
      lab_arguments arguments;
      arguments.*member = value;
      const auto what = refusal(arguments);
      EXPECT_TRUE(what.starts_with("--")) << value << ": " << what;
      EXPECT_EQ(what.find('\n'), std::string::npos);
    }
  }
  for (const char* speed : {"0", "-1", "nan", "1e9"}) {
    lab_arguments arguments;
    arguments.log = "-";
    arguments.speed = speed;
    EXPECT_TRUE(refusal(arguments).starts_with("--speed")) << speed;
  }
}

TEST(options, that_exclude_or_need_each_other) {
  const auto refused = [](auto... set) {
    lab_arguments arguments;
    ((arguments.*(set.first) = set.second), ...);
    return !refusal(arguments).empty();
  };
  using at = lab_arguments;
  const auto arg = [](std::string at::*member, const char* value) {
    return std::pair(member, value);
  };
  EXPECT_TRUE(refused(arg(&at::log, "x"), arg(&at::generate, "hot")));
  EXPECT_TRUE(refused(arg(&at::callers, "5"), arg(&at::rate, "5")));
  EXPECT_TRUE(refused(arg(&at::log, "x"), arg(&at::rate, "5"), arg(&at::speed, "5")));
  EXPECT_TRUE(refused(arg(&at::speed, "5")));
  EXPECT_TRUE(refused(arg(&at::key_from, "path")));
  EXPECT_TRUE(refused(arg(&at::query, "SELECT :key")));
  EXPECT_TRUE(refused(arg(&at::db, "sqlite:x")));
  EXPECT_TRUE(refused(arg(&at::db, "postgres:x"), arg(&at::query, "SELECT :key")));
  EXPECT_TRUE(refused(arg(&at::backend, "delay:1ms"), arg(&at::connections, "4")));
  EXPECT_TRUE(refused(arg(&at::seed, "1"), arg(&at::log, "x")));
}

// Goal    No output overwrites an input or the other output, whatever name it is given by.
TEST(options, outputs_spare_inputs) {
  const support::scratch_folder folder;
  const auto log = folder.write("log", "a\n");
  lab_arguments arguments;
  arguments.log = log;
  arguments.json = folder.file("./log");
  EXPECT_FALSE(refusal(arguments).empty());
  arguments.json = folder.file("out");
  arguments.report = folder.file("./out");
  EXPECT_FALSE(refusal(arguments).empty());
  arguments.report = folder.file("page");
  EXPECT_TRUE(refusal(arguments).empty());
  arguments.json = "/dev/null";
  arguments.report = "/dev/null";
  EXPECT_TRUE(refusal(arguments).empty());
}

}  // namespace
}  // namespace singleflight::lab
