// SPDX-License-Identifier: Apache-2.0
#include "lab/log/access_log.hpp"

#include <algorithm>

namespace singleflight::lab {

namespace {

bool all_digits(std::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// Returns the quoted text at the front of `rest` and removes it, with both quotes.
std::optional<std::string_view> take_quoted(std::string_view& rest) {
  if (rest.empty() || rest.front() != '"') return std::nullopt;
  for (std::size_t at = 1; at < rest.size(); ++at) {
    if (rest[at] == '\\') {
      ++at;
    } else if (rest[at] == '"') {
      const auto text = rest.substr(1, at - 1);
      rest.remove_prefix(at + 1);
      return text;
    }
  }
  return std::nullopt;
}

std::string_view take_word(std::string_view& rest) {
  const auto word = rest.substr(0, rest.find(' '));
  rest.remove_prefix(word.size());
  return word;
}

bool take_space(std::string_view& rest) {
  if (rest.empty() || rest.front() != ' ') return false;
  rest.remove_prefix(1);
  return true;
}

// Turns "http://host/path", as a proxy logs it, into "/path".
std::string_view without_host(std::string_view url) {
  const auto scheme = url.find("://");
  if (scheme == std::string_view::npos || url.front() == '/' || scheme > url.find_first_of("/?#")) {
    return url;
  }
  const auto path = url.find('/', scheme + 3);
  return path == std::string_view::npos ? std::string_view("/") : url.substr(path);
}

const char* split_request(access_log_entry& entry) {
  if (entry.request == "-" || entry.request.empty()) return nullptr;
  const auto space = entry.request.find(' ');
  if (space == 0 || space == std::string_view::npos)
    return "the request is not of the form METHOD URL";
  entry.method = entry.request.substr(0, space);
  if (!std::all_of(entry.method.begin(), entry.method.end(), [](char c) {
        return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-' || c == '_';
      })) {
    return "the request is not of the form METHOD URL";
  }
  // A client may send spaces inside the URL; the version follows the last " HTTP/".
  const auto version = entry.request.rfind(" HTTP/");
  auto url = version == std::string_view::npos || version <= space
                 ? entry.request.substr(space + 1)
                 : entry.request.substr(space + 1, version - space - 1);
  if (url.empty()) return "the request is not of the form METHOD URL";
  entry.url = without_host(url);
  return nullptr;
}

}  // namespace

access_log_result parse_access_log_line(std::string_view line) {
  access_log_entry entry{};
  // Find the bracket of the time and not one of an IPv6 host or of a user name: host, ident and
  // user precede it.
  auto bracket = line.find(' ');
  for (int spaces = 1; spaces < 3 && bracket != std::string_view::npos; ++spaces) {
    bracket = line.find(' ', bracket + 1);
  }
  if (bracket != std::string_view::npos) bracket = line.find(" [", bracket);
  if (bracket == std::string_view::npos)
    return {std::nullopt, "no [time] after host, ident and user"};
  auto rest = line.substr(bracket + 2);
  const auto closing = rest.find(']');
  if (closing == std::string_view::npos) return {std::nullopt, "the [time] does not end"};
  const auto time = parse_access_log_time(rest.substr(0, closing));
  if (!time) return {std::nullopt, "the [time] is not like 10/Oct/2000:13:55:36 -0700"};
  entry.time = *time;
  rest.remove_prefix(closing + 1);

  if (!take_space(rest)) return {std::nullopt, "no \"request\" after the time"};
  const auto request = take_quoted(rest);
  if (!request) return {std::nullopt, "no complete \"request\" after the time"};
  entry.request = *request;
  if (const char* problem = split_request(entry)) return {std::nullopt, problem};

  if (!take_space(rest)) return {std::nullopt, "no status after the request"};
  const auto status = take_word(rest);
  if (status != "-" && (!all_digits(status) || status.size() != 3)) {
    return {std::nullopt, "the status is not a three-digit number"};
  }
  if (!take_space(rest)) return {std::nullopt, "no size after the status"};
  const auto size = take_word(rest);
  if (size != "-" && !all_digits(size)) return {std::nullopt, "the size is not a number"};
  while (take_space(rest)) {
    if (!rest.empty() && rest.front() == '"') {
      if (!take_quoted(rest)) return {std::nullopt, "a quoted field does not end"};
    } else {
      take_word(rest);
    }
  }
  return {entry, nullptr};
}

std::optional<std::string_view> access_log_field(std::string_view line, std::size_t n) {
  for (std::size_t i = 1; !line.empty(); ++i) {
    std::string_view field;
    if (line.front() == '"') {
      const auto quoted = take_quoted(line);
      if (!quoted) return std::nullopt;
      field = *quoted;
    } else if (line.front() == '[' && line.find(']') != std::string_view::npos && i > 1) {
      const auto closing = line.find(']');
      field = line.substr(1, closing - 1);
      line.remove_prefix(closing + 1);
    } else {
      field = take_word(line);
    }
    if (i == n) return field;
    take_space(line);
  }
  return std::nullopt;
}

}  // namespace singleflight::lab
