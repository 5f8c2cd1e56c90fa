// SPDX-License-Identifier: Apache-2.0
#include "lab/log/members.hpp"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

namespace singleflight::lab {

namespace {

using json = nlohmann::json;

// Receives the events of the JSON parser. Arrays are skipped, and so is what is nested deeper than
// any log nests its members.
class json_collector : public json::json_sax_t {
 public:
  explicit json_collector(member_list& members) : members_(members) {}

  bool key(string_t& name) override {
    path_.resize(lengths_.empty() ? 0 : lengths_.back());
    if (!path_.empty()) path_ += '.';
    path_ += name;
    return true;
  }
  bool start_object(std::size_t) override {
    constexpr std::size_t deepest = 64;
    if (lengths_.size() >= deepest) return false;
    lengths_.push_back(path_.size());
    return true;
  }
  bool end_object() override {
    lengths_.pop_back();
    path_.resize(lengths_.empty() ? 0 : lengths_.back());
    return true;
  }
  bool start_array(std::size_t) override {
    constexpr std::size_t deepest = 64;
    return ++arrays_ <= deepest;
  }
  bool end_array() override {
    --arrays_;
    return true;
  }
  bool string(string_t& value) override {
    if (auto* made = add()) {
      made->value = value;
      made->text = true;
    }
    return true;
  }
  bool number_integer(number_integer_t value) override { return number(value); }
  bool number_unsigned(number_unsigned_t value) override { return number(value); }
  bool number_float(number_float_t, const string_t& text) override {
    if (auto* made = add()) made->value = text;
    return true;
  }
  bool null() override { return true; }
  bool boolean(bool value) override {
    if (auto* made = add()) made->value = value ? "true" : "false";
    return true;
  }
  bool binary(binary_t&) override { return false; }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;
  }

 private:
  member_list::member* add() { return arrays_ > 0 ? nullptr : &members_.add(path_); }
  template <class Number>
  bool number(Number value) {
    if (auto* made = add()) {
      char text[24];
      const auto end = std::to_chars(std::begin(text), std::end(text), value).ptr;
      made->value.assign(text, end);
    }
    return true;
  }

  member_list& members_;
  std::string path_;
  std::vector<std::size_t> lengths_;  // of the paths of the objects that are open
  std::size_t arrays_ = 0;            // that are open
};

bool is_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '-' || c == '.' || c == '@' || c == '/';
}

}  // namespace

std::string_view json_of(std::string_view line) {
  const auto begin = line.find('{');
  if (begin == std::string_view::npos) return {};
  line.remove_prefix(begin);
  const auto last = line.find_last_not_of(" \t\r");
  line = line.substr(0, last + 1);
  if (line.size() > 1 && line.back() == ',') line.remove_suffix(1);
  return line;
}

member_list::member& member_list::add(std::string_view path) {
  if (size_ == members_.size()) members_.emplace_back();
  auto& made = members_[size_++];
  made.path = path;
  made.value.clear();
  made.text = false;
  return made;
}

bool member_list::read_logfmt(std::string_view line) {
  for (std::size_t at = 0; at < line.size();) {
    const auto begin = at;
    while (at < line.size() && is_name(line[at])) ++at;
    if (at == line.size() || line[at] != '=' || at == begin) {
      // A word without a value.
      at = std::min(line.find(' ', at), line.size());
      at = std::min(line.find_first_not_of(' ', at), line.size());
      continue;
    }
    auto& made = add(line.substr(begin, at - begin));
    ++at;
    made.text = true;
    if (at < line.size() && line[at] == '"') {
      for (++at; at < line.size() && line[at] != '"'; ++at) {
        if (line[at] == '\\' && at + 1 < line.size()) ++at;
        made.value += line[at];
      }
      if (at == line.size()) {
        --size_;  // the line ends within this value
        return false;
      }
      ++at;
    } else {
      const auto end = std::min(line.find(' ', at), line.size());
      made.value = line.substr(at, end - at);
      at = end;
    }
    at = std::min(line.find_first_not_of(' ', at), line.size());
  }
  return true;
}

bool member_list::read_ltsv(std::string_view line) {
  while (!line.empty()) {
    const auto part = line.substr(0, line.find('\t'));
    line.remove_prefix(std::min(part.size() + 1, line.size()));
    const auto colon = part.find(':');
    if (colon == std::string_view::npos) continue;
    auto& made = add(part.substr(0, colon));
    made.value = part.substr(colon + 1);
    made.text = true;
  }
  return true;
}

bool member_list::read(member_syntax syntax, std::string_view line) {
  size_ = 0;
  if (syntax == member_syntax::logfmt) return read_logfmt(line);
  if (syntax == member_syntax::ltsv) return read_ltsv(line);
  const auto object = json_of(line);
  if (object.empty()) return false;
  json_collector collector(*this);
  return json::sax_parse(object.begin(), object.end(), &collector);
}

}  // namespace singleflight::lab
