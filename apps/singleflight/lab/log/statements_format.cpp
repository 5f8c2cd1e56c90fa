// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "cli/usage_error.hpp"
#include "lab/log/csv.hpp"
#include "lab/log/formats.hpp"
#include "lab/log/statement_text.hpp"
#include "lab/log/words.hpp"

namespace singleflight::lab {

namespace {

reading request_for(std::string_view key, std::optional<stamp> time) {
  reading made;
  made.what = reading::verdict::request;
  made.key = key;
  made.time = time;
  return made;
}

/// Redis MONITOR: 1709294400.100000 [0 192.0.2.7:60866] "GET" "user:1"
class redis_format : public line_format {
 public:
  static bool recognizes(std::string_view line) {
    word_list words(line);
    const auto time = words.next();
    const auto rest = words.rest();
    return time.find('.') != std::string_view::npos && parse_trace_time(time) &&
           rest.starts_with(" [") && rest.find("] \"") != std::string_view::npos;
  }

  reading read(std::string_view line) override {
    if (line == "OK") return reading::no_key("the answer to MONITOR");
    word_list words(line);
    const auto time = parse_trace_time(words.next(), time_unit::s);
    const auto bracket = words.rest().find("] ");
    if (!time || bracket == std::string_view::npos) {
      return reading::malformed("the line is not TIME [DB CLIENT] \"COMMAND\" ...");
    }
    if (!key_of_redis_command(words.rest().substr(bracket + 2), key_)) {
      return reading::no_key("the command has no key");
    }
    return request_for(key_, time);
  }
  bool has_time() const override { return true; }
  std::string describe() const override { return "Redis MONITOR, key: the command's first key"; }

 private:
  std::string key_;
};

/// memcached -vv: <31 get user:1
class memcached_format : public line_format {
 public:
  static bool recognizes(std::string_view line) { return !key_of(line).empty(); }

  reading read(std::string_view line) override {
    const auto key = key_of(line);
    if (key.empty()) return reading::no_key("the line is no command with a key");
    return request_for(key, std::nullopt);
  }
  bool has_time() const override { return false; }
  std::string describe() const override { return "memcached -vv, key: the command's key"; }

 private:
  static std::string_view key_of(std::string_view line) {
    constexpr std::array<std::string_view, 16> commands{
        "get", "gets", "gat",     "gats",   "set",  "add",   "replace", "append",
        "cas", "incr", "prepend", "delete", "decr", "touch", "mg",      "ms"};
    if (!line.starts_with('<')) return {};
    word_list words(line.substr(1));
    if (!whole_number(words.next())) return {};
    const auto command = words.next();
    if (std::find(commands.begin(), commands.end(), command) == commands.end()) return {};
    return words.next();
  }
};

/// MySQL's general log: 2024-03-01T12:00:00.100000Z<tab>    9 Query<tab>select ...
class mysql_format : public line_format {
 public:
  static bool recognizes(std::string_view line) {
    std::string_view command;
    std::string_view argument;
    return split(line, command, argument) && parse_leading_time(line);
  }

  reading read(std::string_view record) override {
    std::string_view command;
    std::string_view argument;
    if (!split(record, command, argument)) {
      return reading::no_key("the line is no command");
    }
    // Older servers write the time only if it has changed.
    if (const auto time = parse_leading_time(record)) time_ = time;
    if (command != "Query" && command != "Execute") return reading::no_key("no statement");
    in_one_line(argument, key_);
    if (key_.empty()) return reading::no_key("the statement is empty");
    return request_for(key_, time_);
  }
  bool joins_lines() const override { return true; }
  bool continues(std::string_view record, std::string_view next) override {
    std::string_view command;
    std::string_view argument;
    if (!split(record, command, argument) || split(next, command, argument)) return false;
    // The head of the log, which is written again after each start of the server.
    return !next.starts_with("Tcp port:") && !next.starts_with("Time  ") &&
           next.find(", Version: ") == std::string_view::npos;
  }
  bool has_time() const override { return true; }
  std::string describe() const override { return "general log of MySQL, key: statement"; }

 private:
  // TIME <tab> ID COMMAND <tab> ARGUMENT
  static bool split(std::string_view line, std::string_view& command, std::string_view& argument) {
    const auto tab = line.find('\t');
    if (tab == std::string_view::npos) return false;
    word_list words(line.substr(tab + 1));
    if (!whole_number(words.next())) return false;
    command = words.next();
    argument = words.rest();
    return !command.empty() && command.front() >= 'A' && command.front() <= 'Z' &&
           (argument.empty() || argument.front() == '\t' || argument.front() == ' ');
  }

  std::string key_;
  std::optional<stamp> time_;
};

/// MySQL's slow log, also of MariaDB: lines that begin with "# " and then the statement.
///
///     # Time: 2024-03-01T12:00:00.100000Z
///     # Query_time: 0.000123  Lock_time: 0.000001 Rows_sent: 1  Rows_examined: 1
///     SET timestamp=1709294400;
///     select ...;
class mysql_slow_format : public line_format {
 public:
  static bool recognizes(std::string_view line) { return line.starts_with(query_time); }

  reading read(std::string_view record) override {
    std::optional<stamp> time;
    std::optional<stamp> exact;
    std::optional<std::chrono::nanoseconds> duration;
    std::string_view statement;
    for (auto rest = record; !rest.empty();) {
      const auto line = rest.substr(0, rest.find('\n'));
      if (line.starts_with("# Time: ")) {
        exact = parse_leading_time(line.substr(8));  // older servers write it without a year
      } else if (line.starts_with(query_time)) {
        word_list words(line.substr(query_time.size()));
        duration = parse_log_duration(words.next(), time_unit::s);
      } else if (line.starts_with("SET timestamp=")) {
        time = parse_trace_time(line.substr(14, line.find(';') - 14), time_unit::s);
      } else if (!line.starts_with('#') && !line.starts_with("use ")) {
        statement = rest;
        break;
      }
      rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    }
    if (!duration) return reading::no_key("no statement");
    in_one_line(statement, key_);
    if (key_.ends_with(';')) key_.pop_back();
    if (key_.empty()) return reading::no_key("the statement is empty");
    auto made = request_for(key_, exact ? exact : time);
    made.duration = duration;
    return made;
  }
  bool joins_lines() const override { return true; }
  bool continues(std::string_view record, std::string_view next) override {
    if (next.find(", Version: ") != std::string_view::npos) return false;
    if (!next.starts_with("# Time: ") && !next.starts_with("# User@Host: ")) return true;
    // The first of the lines of the next statement, unless this one has only such lines yet.
    const auto last = record.substr(record.rfind('\n') + 1);
    return last.starts_with("# Time: ");
  }
  bool has_time() const override { return true; }
  std::string describe() const override { return "slow log of MySQL, key: statement"; }

 private:
  static constexpr std::string_view query_time = "# Query_time: ";

  std::string key_;
};

/// A log of PostgreSQL, whose messages contain the statements.
class postgres_format : public line_format {
 public:
  /// How the log is written: messages are what its jsonlog has in a member.
  enum class kind { text, csv, message };

  explicit postgres_format(kind what) : kind_(what) {}

  static bool recognizes_csv(std::string_view line) {
    csv_splitter splitter;
    return splitter.split(line) && is_csv(splitter.fields());
  }
  static bool recognizes_text(std::string_view line) {
    std::string key;
    return line.find("LOG:  ") != std::string_view::npos && parse_leading_time(line) &&
           statement_of_postgres(line, key);
  }
  static bool recognizes_message(std::string_view line) {
    std::string key;
    return (line.starts_with("statement: ") || line.starts_with("execute ") ||
            line.starts_with("duration: ")) &&
           statement_of_postgres(line, key);
  }

  reading read(std::string_view record) override {
    quotes_ = {};
    if (kind_ == kind::message) return read_message(record, std::nullopt);
    if (kind_ == kind::text) {
      const auto time = times_.parse(record);
      if (!time) return reading::malformed("the line does not begin with a time");
      return read_message(record, time);
    }
    if (!splitter_.split(record) || !is_csv(splitter_.fields())) {
      return reading::malformed("the line does not have the columns of a csvlog");
    }
    return read_message(splitter_.fields()[message_column],
                        parse_trace_time(splitter_.fields()[0]));
  }
  bool joins_lines() const override { return true; }
  bool continues(std::string_view record, std::string_view next) override {
    if (kind_ == kind::csv) return quotes_.open_after(splitter_, record);
    return next.starts_with('\t');
  }
  bool has_time() const override { return kind_ != kind::message; }
  std::string describe() const override {
    return kind_ == kind::csv ? "csvlog of PostgreSQL, key: statement"
                              : "log of PostgreSQL, key: statement";
  }

 private:
  static constexpr std::size_t message_column = 13;

  static bool is_csv(const std::vector<std::string_view>& columns) {
    constexpr std::size_t fewest = 23;
    return columns.size() >= fewest && parse_trace_time(columns[0]) && whole_number(columns[3]) &&
           !columns[11].empty();
  }
  reading read_message(std::string_view message, std::optional<stamp> time) {
    if (!statement_of_postgres(message, key_)) return reading::no_key("no statement");
    auto made = request_for(key_, time);
    if (const auto at = message.find("duration: "); at != std::string_view::npos) {
      word_list words(message.substr(at + 10));
      made.duration = parse_log_duration(words.next(), time_unit::ms);
    }
    return made;
  }

  kind kind_;
  leading_times times_;
  csv_splitter splitter_;
  std::string key_;
  open_quotes quotes_;
};

template <class Recognizes>
bool any(const std::vector<std::string>& lines, Recognizes recognizes) {
  return std::any_of(lines.begin(), lines.end(), recognizes);
}

}  // namespace

std::unique_ptr<line_format> recognize_statements(const log_head& head,
                                                  const reading_choice& choice) {
  std::unique_ptr<line_format> format;
  if (any(head.lines, redis_format::recognizes)) {
    format = std::make_unique<redis_format>();
  } else if (any(head.lines, mysql_format::recognizes)) {
    format = std::make_unique<mysql_format>();
  } else if (any(joined_records(head.lines, csv_splitter()), postgres_format::recognizes_csv)) {
    format = std::make_unique<postgres_format>(postgres_format::kind::csv);
  } else if (any(head.lines, postgres_format::recognizes_text)) {
    format = std::make_unique<postgres_format>(postgres_format::kind::text);
  } else if (any(head.lines, postgres_format::recognizes_message)) {
    format = std::make_unique<postgres_format>(postgres_format::kind::message);
  } else if (any(head.lines, mysql_slow_format::recognizes)) {
    format = std::make_unique<mysql_slow_format>();
  } else if (any(head.lines, memcached_format::recognizes)) {
    format = std::make_unique<memcached_format>();
  }
  if (format && choice.key.from != key_choice::part::automatic) {
    if (choice.key.from == key_choice::part::field) return nullptr;
    throw cli::usage_error(
        fmt::format("--key-from: {} is a {}, and that is its key; omit the option", head.name,
                    format->describe()));
  }
  if (format) refuse_column_options(head, choice, format->describe());
  if (format && choice.time.from != time_choice::part::automatic) {
    throw cli::usage_error(
        fmt::format("--time-from: {} is read as: {}; its time cannot be chosen; omit the option, "
                    "or read words with --key-from field=N too",
                    head.name, format->describe()));
  }
  return format;
}

}  // namespace singleflight::lab
