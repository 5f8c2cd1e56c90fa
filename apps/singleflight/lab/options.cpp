// SPDX-License-Identifier: Apache-2.0
#include "lab/options.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <initializer_list>
#include <string_view>
#include <utility>

#include "cli/command_line.hpp"
#include "cli/units.hpp"
#include "cli/usage_error.hpp"
#include "lab/protection/protection.hpp"

namespace singleflight::lab {

namespace {

bool given(const std::string& argument) { return !argument.empty(); }

void check_workload(const lab_arguments& arguments, lab_options& options) {
  cli::refuse_if(given(arguments.log) && given(arguments.generate),
                 "--log and --generate exclude each other; omit one");
  const bool faulty = given(arguments.fail) || given(arguments.slow);
  const bool drawn = given(arguments.load_time) || given(arguments.db);
  cli::refuse_if(given(arguments.seed) && given(arguments.log) && !faulty && !drawn,
                 "--seed is for --generate, --fail, --slow and --load-time; omit it");
  options.log = check_log(arguments);
  if (given(arguments.generate)) options.generate = generator::parse(arguments.generate);
  if (given(arguments.seed))
    options.seed = cli::parse_count("--seed", arguments.seed, {0, 1e18, "1"});
  options.all_requests = arguments.requests == "all";
  cli::refuse_if(options.all_requests && !given(arguments.log),
                 "--requests: 'all' needs a log; give a number, for example --requests 2000");
}

void check_pacing(const lab_arguments& arguments, pacing& pace) {
  const int forms =
      int{given(arguments.callers)} + int{given(arguments.rate)} + int{given(arguments.speed)};
  cli::refuse_if(forms > 1, "--callers, --rate and --speed exclude each other; give only one");
  cli::refuse_if(given(arguments.speed) && !given(arguments.log),
                 "--speed needs a log with times; add --log FILE, or use --callers N or --rate R");
  if (given(arguments.callers))
    pace.callers = cli::parse_count("--callers", arguments.callers, {1, 10'000, "50"});
  if (given(arguments.rate)) {
    pace.form = pacing::loop::rate;
    pace.rate = cli::parse_number("--rate", arguments.rate, {0.001, 1'000'000, "200"});
  }
  if (given(arguments.speed)) {
    pace.form = pacing::loop::log_times;
    pace.speed = cli::parse_number("--speed", arguments.speed, {0.001, 1'000'000, "10"});
  }
}

void check_simulation(const lab_arguments& arguments, lab_options& options) {
  const auto& pace = options.pace;
  const bool paced = pace.open() || given(arguments.callers);
  options.simulates_times = given(arguments.log) && !arguments.replay && !paced;
  const auto first_given =
      [](std::initializer_list<std::pair<const char*, const std::string&>> all) -> const char* {
    for (const auto& [name, argument] : all) {
      if (given(argument)) return name;
    }
    return nullptr;
  };
  options.replay_only = first_given({{"--deadline", arguments.deadline},
                                     {"--retry", arguments.retry},
                                     {"--breaker", arguments.breaker},
                                     {"--max-loads", arguments.max_loads}});
  // A simulation connects to a database only for its trial.
  if (options.replay_only == nullptr && given(arguments.connections) && !given(arguments.db))
    options.replay_only = "--connections";
  options.simulation_only = first_given({{"--load-time", arguments.load_time},
                                         {"--processes", arguments.processes},
                                         {"--fleet", arguments.fleet}});
  cli::refuse_if(given(arguments.load_time) && (given(arguments.db) || given(arguments.backend)),
                 "--load-time excludes --db and --backend, whose loads have a time; omit one");
  auto& choice = options.simulated;
  if (given(arguments.load_time))
    choice.load_time = load_times::parse(arguments.load_time, options.seed);
  if (given(arguments.processes))
    choice.processes = cli::parse_count("--processes", arguments.processes, {1, 1000, "4"});
  if (given(arguments.fleet)) {
    cli::refuse_if(!given(arguments.processes),
                   "--fleet says what several processes share; add --processes N");
    cli::refuse_if(arguments.fleet != "one" && arguments.fleet != "each",
                   "--fleet is 'one' (the processes share one group and one cache) or 'each' (each "
                   "has its own); for example --fleet one");
    choice.one_fleet = arguments.fleet == "one";
  }
}

void check_backend(const lab_arguments& arguments, backend_choice& choice) {
  cli::refuse_if(given(arguments.db) && given(arguments.backend),
                 "--db and --backend exclude each other; omit one");
  cli::refuse_if(given(arguments.db) && !given(arguments.query),
                 "--db needs a query; add --query 'SELECT ... WHERE id = :key'");
  cli::refuse_if(given(arguments.query) && !given(arguments.db),
                 "--query needs a database; add --db sqlite:FILE");
  if (given(arguments.db)) {
    constexpr std::string_view scheme = "sqlite:";
    if (!arguments.db.starts_with(scheme) || arguments.db.size() == scheme.size()) {
      throw cli::usage_error(
          fmt::format("--db: '{}' is not sqlite:FILE; for example --db sqlite:shop.db",
                      cli::one_line(arguments.db, 40)));
    }
    choice.database = arguments.db.substr(scheme.size());
    // SQLite interprets some names as memory or as a URI; here a name is always a file.
    if (std::error_code error; !std::filesystem::exists(choice.database, error)) {
      throw cli::usage_error(
          fmt::format("--db: there is no file {}; name an SQLite database file: --db sqlite:FILE",
                      cli::one_line(choice.database)));
    }
    choice.database = std::filesystem::absolute(choice.database).string();
    choice.query = arguments.query;
  }
  if (given(arguments.backend)) {
    constexpr std::string_view scheme = "delay:";
    if (!arguments.backend.starts_with(scheme)) {
      throw cli::usage_error(
          fmt::format("--backend: '{}' is not delay:TIME; for example --backend delay:20ms",
                      cli::one_line(arguments.backend, 40)));
    }
    choice.delay = cli::parse_duration("--backend delay",
                                       std::string_view(arguments.backend).substr(scheme.size()),
                                       {0, 3600, "delay:20ms"});
    cli::refuse_if(given(arguments.connections),
                   "--connections is for databases; omit it with --backend delay");
  }
  if (given(arguments.connections)) {
    choice.connections = cli::parse_count("--connections", arguments.connections, {1, 1000, "4"});
  }
}

void check_faults(const lab_arguments& arguments, faults& injected) {
  if (given(arguments.fail)) {
    injected.fail_share = cli::parse_percentage("--fail", arguments.fail, "5%");
  }
  if (given(arguments.slow)) {
    constexpr const char* example = "1%:2s";
    const std::string_view text = arguments.slow;
    const auto colon = text.find(':');
    if (colon == std::string_view::npos) {
      throw cli::usage_error(fmt::format("--slow: '{}' is not SHARE:TIME; for example --slow {}",
                                         cli::one_line(text, 40), example));
    }
    injected.slow_share = cli::parse_percentage("--slow share", text.substr(0, colon), example);
    injected.slow_by =
        cli::parse_duration("--slow time", text.substr(colon + 1), {0, 3600, example});
  }
}

void check_guards(const lab_arguments& arguments, guard_settings& guards) {
  if (given(arguments.retry)) {
    guards.attempts =
        static_cast<std::uint32_t>(cli::parse_count("--retry", arguments.retry, {1, 100, "3"}));
  }
  if (given(arguments.breaker)) {
    guards.error_rate = cli::parse_percentage("--breaker", arguments.breaker, "50%");
    if (*guards.error_rate == 0) {
      throw cli::usage_error(
          "--breaker: at 0% it would open without a failure; give a larger share, for example "
          "--breaker 50%");
    }
  }
  if (given(arguments.max_loads)) {
    guards.max_loads = cli::parse_count("--max-loads", arguments.max_loads, {1, 10'000, "8"});
  }
}

constexpr std::pair<const char*, std::string lab_arguments::*> cache_options[] = {
    {"--capacity", &lab_arguments::capacity},
    {"--ttl", &lab_arguments::ttl},
    {"--refresh-after", &lab_arguments::refresh_after},
    {"--stale-if-error", &lab_arguments::stale_if_error}};

bool has_cache(const std::vector<std::string>& protections) {
  return std::any_of(protections.begin(), protections.end(),
                     [](const std::string& name) { return name.starts_with("cache"); });
}

void check_cache(const lab_arguments& arguments, lab_options& options) {
  const char* first = nullptr;
  for (const auto& [name, argument] : cache_options) {
    if (first == nullptr && given(arguments.*argument)) first = name;
  }
  if (first == nullptr) return;
  if (!has_cache(options.protections) &&
      (!options.simulates_times || !options.protections.empty())) {
    throw cli::usage_error(fmt::format(
        "{} is for the protection cache; add it, for example --protect none,cache, or omit {}",
        first, first));
  }
  cache_settings cache;
  if (given(arguments.capacity))
    cache.capacity = cli::parse_count("--capacity", arguments.capacity, {1, 10'000'000, "1000"});
  constexpr double shortest = 0.001;
  constexpr double longest = 7 * 24 * 3600;
  if (given(arguments.ttl))
    cache.ttl = cli::parse_duration("--ttl", arguments.ttl, {shortest, longest, "10s"});
  if (given(arguments.refresh_after)) {
    cache.refresh_after =
        cli::parse_duration("--refresh-after", arguments.refresh_after, {shortest, longest, "5s"});
    cli::refuse_if(given(arguments.ttl) && cache.refresh_after >= cache.ttl,
                   "--refresh-after is not shorter than --ttl: an answer expires before it is "
                   "refreshed; for example --ttl 10s --refresh-after 5s");
  }
  const auto& names = options.protections;
  if (!names.empty() && std::find(names.begin(), names.end(), "cache") == names.end()) {
    cli::refuse_if(given(arguments.refresh_after) || given(arguments.stale_if_error),
                   "--refresh-after and --stale-if-error are for the protection cache: cache-alone "
                   "has neither; add --protect cache, or omit them");
  }
  if (given(arguments.stale_if_error)) {
    cli::refuse_if(!given(arguments.ttl),
                   "--stale-if-error needs a time after which an answer is stale; add --ttl 10s");
    cache.stale_if_error = cli::parse_duration("--stale-if-error", arguments.stale_if_error,
                                               {shortest, longest, "60s"});
  }
  options.cache = cache;
}

std::vector<std::string> check_protections(std::string_view text) {
  const auto& known = protection_names();
  std::vector<std::string> chosen;
  while (true) {
    const auto comma = text.find(',');
    const std::string name(text.substr(0, comma));
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      throw cli::usage_error(fmt::format("--protect: there is no protection '{}'; choose from {}",
                                         cli::one_line(name, 40), fmt::join(known, ", ")));
    }
    if (std::find(chosen.begin(), chosen.end(), name) != chosen.end()) {
      throw cli::usage_error(fmt::format("--protect: '{}' is listed twice; list it once", name));
    }
    chosen.push_back(name);
    if (comma == std::string_view::npos) return chosen;
    text = text.substr(comma + 1);
  }
}

}  // namespace

void declare_options(CLI::App& command, lab_arguments& arguments) {
  const auto add = [&](const char* name, std::string& target, const char* group, const char* type,
                       const char* help) {
    return cli::add_text_option(command, name, target, {group, type, help});
  };
  constexpr const char* workload = "Workload";
  add("--log", arguments.log, workload, "FILE", log_help);
  declare_reading_options(command, arguments, workload);
  add("--generate", arguments.generate, workload, "SHAPE",
      "Generate requests: hot[:keys=N,share=S], zipf[:keys=N,skew=S], uniform[:keys=N] "
      "[hot:keys=1000,share=0.9]");
  add("--seed", arguments.seed, workload, "N",
      "Seed of the generated requests, and of --fail, --slow and drawn load times [1]");
  add("--requests", arguments.requests, workload, "N|all",
      "How many requests to use [all of a log that is simulated; of others as many as take about "
      "30 s without protection; at most 2,000 generated ones]");

  constexpr const char* simulation =
      "Simulation of a log with times (without --replay or a pacing)";
  add("--load-time", arguments.load_time, simulation, "TIME",
      "How long a load takes: 20ms, or lognormal:20ms,p99=200ms with 20 ms as the median [as the "
      "log says; that of --backend; a trial of --db; 20ms]");
  add("--processes", arguments.processes, simulation, "N",
      "The requests are dealt to N processes in turn [1]");
  add("--fleet", arguments.fleet, simulation, "WHAT",
      "each: each process has a group and a cache of its own; one: they share one [each]");

  constexpr const char* pacing = "Replay in real time (at most one pacing)";
  command
      .add_flag("--replay", arguments.replay, "Replay a log with times instead of simulating it")
      ->group(pacing);
  add("--callers", arguments.callers, pacing, "N",
      "Closed loop: N threads; each waits for its answer before its next request [50]");
  add("--rate", arguments.rate, pacing, "R",
      "Open loop: R requests per second, independently of earlier ones");
  add("--speed", arguments.speed, pacing, "X", "Open loop: X times as fast as the log");

  constexpr const char* backend = "Backend";
  add("--db", arguments.db, backend, "sqlite:FILE",
      "Query this database, read-only [an embedded shop]");
  add("--query", arguments.query, backend, "SQL", "The query: a SELECT with :key for the key");
  add("--connections", arguments.connections, backend, "N", "Connections to the database [4]");
  add("--backend", arguments.backend, backend, "delay:TIME", "No database: each load takes TIME");
  add("--fail", arguments.fail, backend, "SHARE",
      "Make this share of the loads fail after their work is done, for example 5% [0%]");
  add("--slow", arguments.slow, backend, "SHARE:TIME",
      "Delay this share of the answers by TIME, for example 1%:2s [none]");

  constexpr const char* protection = "Protection";
  add("--protect", arguments.protect, protection, "NAMES",
      "Use each in turn: none, flight (one load per key at a time), cache-alone (stores the "
      "answers), cache (both) [all; of a replay none,flight]");
  add("--deadline", arguments.deadline, protection, "TIME",
      "How long each caller waits, for example 500ms [forever]");

  constexpr const char* cache = "Cache (with --protect cache)";
  add("--capacity", arguments.capacity, cache, "N",
      "Store at most N answers [10000; of a simulation what it recommends]");
  add("--ttl", arguments.ttl, cache, "TIME",
      "How long an answer is fresh, for example 10s [forever; of a simulation what it recommends]");
  add("--refresh-after", arguments.refresh_after, cache, "TIME",
      "Reload an older answer in the background when it is requested [never]");
  add("--stale-if-error", arguments.stale_if_error, cache, "TIME",
      "Serve an answer for TIME after its --ttl if its load fails [not at all]");

  constexpr const char* guards = "Guards between the protection and the backend";
  add("--retry", arguments.retry, guards, "[N]",
      "Retry a failed load after up to 10, 20, 40 ms ..., at most N attempts")
      ->expected(0, 1)
      ->default_str("3");
  add("--breaker", arguments.breaker, guards, "[SHARE]",
      "A circuit breaker: opens at this share of failures, then rejects loads for 5 s")
      ->expected(0, 1)
      ->default_str("50%");
  add("--max-loads", arguments.max_loads, guards, "N",
      "At most N concurrent loads; others wait for their turn [any number]");

  constexpr const char* output = "Output, in addition to the table";
  add("--json", arguments.json, output, "FILE", "Write the results as JSON");
  add("--report", arguments.report, output, "FILE",
      "Write a page with charts, one self-contained HTML file");
}

// How many requests are read: of a log that is simulated more than can be replayed.
void check_requests(const lab_arguments& arguments, lab_options& options) {
  options.log.at_most =
      options.simulates_times ? timed_trace::most_requests : std::uint64_t{most_requests};
  if (!given(arguments.requests) || options.all_requests) return;
  options.requests = cli::parse_count("--requests", arguments.requests,
                                      {1, static_cast<double>(options.log.at_most), "2000"});
  options.log.at_most = options.requests;
}

lab_options check_options(const lab_arguments& arguments) {
  lab_options options;
  check_workload(arguments, options);
  check_pacing(arguments, options.pace);
  check_simulation(arguments, options);
  check_requests(arguments, options);
  options.log.needs_times = options.pace.form == pacing::loop::log_times;
  check_backend(arguments, options.backend);
  check_faults(arguments, options.injected);
  if (given(arguments.protect)) options.protections = check_protections(arguments.protect);
  if (given(arguments.deadline)) {
    options.deadline = cli::parse_duration("--deadline", arguments.deadline, {1e-6, 3600, "500ms"});
  }
  check_cache(arguments, options);
  check_guards(arguments, options.guards);
  cli::check_outputs(arguments.json, arguments.report,
                     {options.log.path == "-" ? "" : options.log.path, options.backend.database});
  options.json = arguments.json;
  options.report = arguments.report;
  if (!options.simulates_times) settle(options, false);
  return options;
}

void settle(lab_options& options, bool simulated) {
  if (simulated && options.replay_only != nullptr) {
    throw cli::usage_error(
        fmt::format("{} is for a replay, and a log with times is simulated; add --replay, or omit "
                    "{}",
                    options.replay_only, options.replay_only));
  }
  if (!simulated && options.simulation_only != nullptr) {
    throw cli::usage_error(fmt::format(
        "{} is for the simulation of a log with times, and this is a replay; omit {}{}",
        options.simulation_only, options.simulation_only,
        options.log.path.empty()  ? ", or add --log FILE"
        : options.simulates_times ? ": no time of the log could be read; --time-from names one"
                                  : ""));
  }
  if (options.protections.empty()) {
    options.protections =
        simulated ? protection_names() : std::vector<std::string>{"none", "flight"};
    if (!simulated && options.cache) options.protections.emplace_back("cache");
  }
  if (!simulated && !options.cache && has_cache(options.protections)) {
    options.cache = cache_settings{};
  }
}

}  // namespace singleflight::lab
