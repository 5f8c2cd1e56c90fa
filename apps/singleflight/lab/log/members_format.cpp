// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "cli/usage_error.hpp"
#include "lab/log/fields.hpp"
#include "lab/log/formats.hpp"
#include "lab/log/members.hpp"
#include "lab/log/words.hpp"

namespace singleflight::lab {

namespace {

using part = key_choice::part;
using names = std::vector<std::string>;

constexpr const char* label = "abcdefghijklmnopqrstuvwxyz_-ABCDEFGHIJKLMNOPQRSTUVWXYZ";
constexpr auto no_member = static_cast<std::size_t>(-1);

const char* name_of(member_syntax syntax) {
  switch (syntax) {
    case member_syntax::logfmt: return "logfmt";
    case member_syntax::ltsv: return "LTSV";
    default: return "JSON";
  }
}

/// What members the lines of a log have, and which of them are used.
struct member_plan {
  member_syntax syntax = member_syntax::json;
  names paths;  // of all members of the log's beginning
  field_map fields;
  std::optional<std::size_t> chosen;   // the member that the user chose as the key
  std::optional<std::size_t> wrapped;  // the member that contains a line of another format
  bool has_time = false;
};

/// The values of the members of one line, by their index in member_plan::paths.
class member_values {
 public:
  void take(const member_plan& plan, const member_list& members) {
    values_.assign(plan.paths.size(), {});
    guess_.resize(plan.paths.size(), 0);
    for (std::size_t i = 0; i < members.size(); ++i) {
      const auto index = index_of(plan, members[i].path, i);
      if (index != no_member && values_[index].empty()) values_[index] = members[i].value;
    }
  }
  std::string_view operator[](std::size_t index) const { return values_[index]; }

 private:
  // Most lines have the same members in the same order.
  std::size_t index_of(const member_plan& plan, const std::string& path, std::size_t position) {
    if (position >= guess_.size()) guess_.resize(position + 1, 0);
    auto& guess = guess_[position];
    if (guess < plan.paths.size() && plan.paths[guess] == path) return guess;
    const auto found = std::find(plan.paths.begin(), plan.paths.end(), path);
    if (found == plan.paths.end()) return no_member;
    return guess = static_cast<std::size_t>(found - plan.paths.begin());
  }

  std::vector<std::string_view> values_;
  std::vector<std::size_t> guess_;  // the index of the member at each position
};

class members_format : public line_format {
 public:
  members_format(member_plan plan, const reading_choice& choice, std::unique_ptr<line_format> inner)
      : plan_(std::move(plan)), reader_(plan_.fields, choice), inner_(std::move(inner)) {}

  reading read(std::string_view line) override {
    const bool complete = members_.read(plan_.syntax, line);
    if (members_.size() == 0) {
      return complete || line == "OK" || line == "[" || line == "]"
                 ? reading::no_key("the line has no members")
                 : reading::malformed("the line is not complete, or not of members");
    }
    values_.take(plan_, members_);
    field_reader::values values;
    for (std::size_t i = 0; i < number_of_fields; ++i) {
      if (const auto index = plan_.fields.places[i].index) values[i] = values_[*index];
    }
    if (inner_) return read_inner(values);
    const std::string_view chosen = plan_.chosen ? values_[*plan_.chosen] : std::string_view{};
    auto made = reader_.read(values, plan_.chosen ? &chosen : nullptr);
    // What is before the members may be the time: a prefix of syslog or of a router.
    if (!made.time && !plan_.fields.has(field::time)) made.time = prefixes_.parse(line);
    if (!complete && made.what != reading::verdict::request) {
      return reading::malformed("the line ends within its members");
    }
    return made;
  }
  bool has_time() const override { return plan_.has_time || (inner_ && inner_->has_time()); }
  bool http() const override { return inner_ ? inner_->http() : plan_.fields.http(); }
  std::string describe() const override {
    const char* syntax = name_of(plan_.syntax);
    if (inner_) {
      return fmt::format("{} whose member {} is: {}", syntax,
                         cli::one_line(plan_.paths[*plan_.wrapped], 40), inner_->describe());
    }
    const auto key = plan_.chosen ? "member " + cli::one_line(plan_.paths[*plan_.chosen], 40)
                                  : reader_.describe();
    return fmt::format("{}, key: {}", syntax, key);
  }

 private:
  reading read_inner(const field_reader::values& values) {
    auto text = values_[*plan_.wrapped];
    if (text.ends_with('\n')) text.remove_suffix(1);
    if (text.empty()) return reading::no_key("the line contains no message");
    auto made = inner_->read(text);
    if (made.what == reading::verdict::malformed) made.what = reading::verdict::no_key;
    if (!made.time) {
      made.time = parse_trace_time(values[static_cast<std::size_t>(field::time)],
                                   plan_.fields.of(field::time).unit);
    }
    return made;
  }

  member_plan plan_;
  field_reader reader_;
  std::unique_ptr<line_format> inner_;
  member_list members_;
  member_values values_;
  leading_times prefixes_;
};

// How the lines write their members, if at least half of them do.
std::optional<member_syntax> syntax_of(const log_head& head) {
  member_list members;
  const auto most = [&](auto matches) {
    const auto count = std::count_if(head.lines.begin(), head.lines.end(), matches);
    return count > 0 && static_cast<std::size_t>(count) * 2 >= head.lines.size();
  };
  if (most([&](const std::string& line) {
        return line.find('{') != line.npos && line.find('"') != line.npos &&
               members.read(member_syntax::json, line) && members.size() > 0;
      })) {
    return member_syntax::json;
  }
  if (most([](const std::string& line) {
        const auto end = line.find_first_not_of(label);
        return end != line.npos && end > 0 && line[end] == ':' && line.find('\t') != line.npos;
      })) {
    return member_syntax::ltsv;
  }
  if (most([&](const std::string& line) {
        return line.find('=') != line.npos && members.read(member_syntax::logfmt, line) &&
               members.size() >= 2;
      })) {
    return member_syntax::logfmt;
  }
  return std::nullopt;
}

// The paths of all members, those that are nested least first.
names paths_of(const log_head& head, member_syntax syntax) {
  constexpr std::size_t most_paths = 1000;
  names paths;
  member_list members;
  for (const auto& line : head.lines) {
    members.read(syntax, line);
    for (std::size_t i = 0; i < members.size() && paths.size() < most_paths; ++i) {
      if (std::find(paths.begin(), paths.end(), members[i].path) == paths.end()) {
        paths.push_back(members[i].path);
      }
    }
  }
  std::stable_sort(paths.begin(), paths.end(), [](const std::string& a, const std::string& b) {
    return std::count(a.begin(), a.end(), '.') < std::count(b.begin(), b.end(), '.');
  });
  return paths;
}

// The lines that the members contain; empty if no member does.
log_head inner_head(const log_head& head, member_plan& plan) {
  for (const char* name : {"log", "message", "MESSAGE", "msg", "line", "textPayload", "@message"}) {
    plan.wrapped = index_of_name(plan.paths, name);
    if (!plan.wrapped) continue;
    log_head inner{head.name, {}};
    member_list members;
    member_values values;
    for (const auto& line : head.lines) {
      members.read(plan.syntax, line);
      values.take(plan, members);
      auto text = values[*plan.wrapped];
      if (text.ends_with('\n')) text.remove_suffix(1);
      if (!text.empty()) inner.lines.emplace_back(text);
    }
    return inner;
  }
  return {};
}

std::size_t chosen_member(const log_head& head, const member_plan& plan, const key_choice& key) {
  const auto index = index_of_name(plan.paths, key.name);
  if (index && key.from != part::field) return *index;
  throw cli::usage_error(
      fmt::format("--key-from: {} is {} and has no such member; choose one of its members with "
                  "--key-from member=NAME: {}",
                  head.name, name_of(plan.syntax),
                  cli::one_line(fmt::format("{}", fmt::join(plan.paths, ", ")), 300)));
}

// JSON that is not one object a line: objects over several lines, or several in one.
void refuse_other_json(const log_head& head) {
  const auto second = head.lines.size() > 1 ? head.lines[1] : std::string();
  const auto first = head.lines.empty() ? std::string() : head.lines.front();
  const bool array =
      first.starts_with("[{\"") || (first == "[" && second.find('{') != std::string::npos);
  const bool object = first == "{" && second.find('"') != std::string::npos;
  if (!array && !object) return;
  throw cli::usage_error(
      fmt::format("--log: {} is JSON, but not one object a line, which the lab needs; convert "
                  "it: jq -c {} FILE | singleflight lab --log -",
                  head.name, array ? "'.[]'" : "."));
}

void look_at_times(const log_head& head, member_plan& plan, const reading_choice& choice) {
  choose_time(choice.time, plan.paths, head.name, "member", plan.fields);
  const auto time = plan.fields.of(field::time);
  if (!time.index) {
    plan.has_time = std::any_of(head.lines.begin(), head.lines.end(), [](const auto& line) {
      return parse_leading_time(line).has_value();
    });
    return;
  }
  member_list members;
  member_values values;
  for (const auto& line : head.lines) {
    members.read(plan.syntax, line);
    values.take(plan, members);
    plan.has_time = plan.has_time || parse_trace_time(values[*time.index], time.unit).has_value();
  }
}

}  // namespace

std::unique_ptr<line_format> recognize_members(const log_head& head, const reading_choice& choice) {
  const auto syntax = syntax_of(head);
  if (!syntax) {
    refuse_other_json(head);
    return nullptr;
  }
  member_plan plan;
  plan.syntax = *syntax;
  plan.paths = paths_of(head, *syntax);
  plan.fields = find_fields(plan.paths);
  const auto& key = choice.key;
  const bool named = key.from == part::member || key.from == part::column;
  if (*syntax != member_syntax::json && !plan.fields.has_key() && !named) return nullptr;
  refuse_column_options(head, choice, name_of(*syntax));
  look_at_times(head, plan, choice);
  if (named) {
    plan.chosen = chosen_member(head, plan, key);
    return std::make_unique<members_format>(std::move(plan), choice, nullptr);
  }
  const bool own_key = key.of_url() ? plan.fields.http() : plan.fields.has_key();
  if (own_key && key.from != part::field) {
    return std::make_unique<members_format>(std::move(plan), choice, nullptr);
  }
  if (auto inner = inner_head(head, plan); !inner.lines.empty()) {
    auto inner_choice = choice;
    inner_choice.time = {};
    // A message that is free text is no key.
    auto format = key.from == part::field ? detect_format(inner, inner_choice)
                                          : find_format(inner, inner_choice);
    if (format) {
      return std::make_unique<members_format>(std::move(plan), choice, std::move(format));
    }
  }
  throw cli::usage_error(
      fmt::format("--log: {} is {} without a member that is known as a URL or a key; choose one "
                  "with --key-from member=NAME: {}",
                  head.name, name_of(*syntax),
                  cli::one_line(fmt::format("{}", fmt::join(plan.paths, ", ")), 300)));
}

}  // namespace singleflight::lab
