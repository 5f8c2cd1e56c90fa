// SPDX-License-Identifier: Apache-2.0
#include "lab/log/access_log.hpp"

#include <algorithm>
#include <charconv>

#include "lab/log/access_log_details.hpp"
#include "lab/log/http_key.hpp"
#include "lab/log/words.hpp"

namespace singleflight::lab {

namespace {

// The end of the quoted text that begins at `at`: its closing quote, or the end of the line.
std::size_t end_of_quoted(std::string_view line, std::size_t at) {
  while (true) {
    const auto quote = line.find('"', at);
    if (quote == std::string_view::npos) return line.size();
    // An odd number of backslashes escapes the quote.
    auto first = quote;
    while (first > at && line[first - 1] == '\\') --first;
    if ((quote - first) % 2 == 0) return quote;
    at = quote + 1;
  }
}

// A text where a request would be that the server could not read, or that was not sent.
bool is_no_request(std::string_view text) {
  return text.empty() || text == "-" || text == "<BADREQ>" || text.starts_with("- ") ||
         text.starts_with("\\x");
}

bool is_url(std::string_view method, std::string_view word) {
  return word.starts_with('/') || word == "*" || method == "CONNECT" ||
         word.find("://") != std::string_view::npos;
}

// A request without quotes: the name of a method, and a URL after it.
bool find_bare_request(std::string_view line, access_log_line& made, std::size_t& begin,
                       std::size_t& end) {
  word_list words(line);
  for (auto word = words.next(); !word.empty(); word = words.next()) {
    if (!is_http_method(word)) continue;
    const auto url = words.next();
    if (url.empty()) return false;
    if (!is_url(word, url)) continue;
    made.method = word;
    made.url = url;
    begin = static_cast<std::size_t>(word.data() - line.data());
    end = static_cast<std::size_t>(url.data() - line.data()) + url.size();
    return true;
  }
  return false;
}

// Whether a word is a number that only a time of 2000 to 2100 is: ten digits of seconds, perhaps
// with a fraction, or thirteen of milliseconds.
bool is_epoch(std::string_view word) {
  const auto digits = std::min(word.find_first_not_of("0123456789"), word.size());
  const auto rest = word.substr(digits);
  const bool seconds = digits == 10 && (rest.empty() || (rest.size() > 1 && rest[0] == '.'));
  const bool milliseconds = digits == 13 && rest.empty();
  if (!seconds && !milliseconds) return false;
  if (rest.size() > 1 && rest.find_first_not_of("0123456789", 1) != rest.npos) return false;
  const auto year_2000 = std::string_view("0946684800");
  const auto year_2100 = std::string_view("4102444800");
  const auto first = word.substr(0, 10);
  return first >= year_2000 && first < year_2100;
}

}  // namespace

bool access_log_parser::find_quoted_request(std::string_view line, access_log_line& made,
                                            place& request) const {
  made.reason = nullptr;
  for (auto quote = line.find('"'); quote != std::string_view::npos;) {
    const auto end = end_of_quoted(line, quote + 1);
    const auto text = line.substr(quote + 1, end - quote - 1);
    if (const auto split = split_request_line(text)) {
      if (end == line.size() && text.find(" HTTP/") == std::string_view::npos) {
        made.reason = "the line ends within its request";
        return false;
      }
      made.method = split->method;
      made.url = split->url;
      made.quoted = true;
      request = {quote, std::min(end + 1, line.size())};
      return true;
    }
    if (is_no_request(text)) {
      made.what = access_log_line::content::nothing;
    } else if (looks_like_host(text)) {
      made.host = text;
    }
    quote = end < line.size() ? line.find('"', end + 1) : std::string_view::npos;
  }
  return false;
}

std::optional<stamp> access_log_parser::bracket_time(std::string_view text) {
  if (text == last_text_) return last_time_;
  // A number that is shorter than today's seconds identifies a process or a thread.
  constexpr std::size_t shortest = 10;
  if (text.size() < shortest || text.front() < '0' || text.front() > '9') return std::nullopt;
  auto time = parse_access_log_time(text);
  if (!time) time = parse_trace_time(text);
  if (time) {
    last_text_ = text;
    last_time_ = time;
  }
  return time;
}

// A time without brackets: a number of seconds or milliseconds that only an epoch is, or CLF.
std::optional<stamp> access_log_parser::time_of_some_word(std::string_view line,
                                                          const place& request, place& where) {
  word_list words(line);
  int after_request = 0;
  for (auto word = words.next(); !word.empty(); word = words.next()) {
    const auto begin = static_cast<std::size_t>(word.data() - line.data());
    const bool after = request.end > 0 && begin >= request.end;
    // The status and the size follow the request.
    if (after && ++after_request <= 2) continue;
    if (begin >= request.begin && !after && request.end > 0) continue;
    constexpr std::size_t shortest = 10;
    if (word.size() < shortest || word.front() < '0' || word.front() > '9') continue;
    if (word[2] == '/') {
      // "01/Mar/2024:12:00:00 +0000"
      const auto end = std::min(line.find(' ', begin + word.size() + 1), line.size());
      for (const auto last : {end, begin + word.size()}) {
        where = {begin, last};
        if (const auto time = bracket_time(line.substr(begin, last - begin))) return time;
      }
    } else if (begin == 0 || is_epoch(word)) {
      where = {begin, begin + word.size()};
      if (const auto time = parse_trace_time(word)) return time;
    }
  }
  where = {0, 0};
  return std::nullopt;
}

std::optional<stamp> access_log_parser::find_time(std::string_view line, const place& request,
                                                  place& where) {
  if (line.size() > 19 && line[4] == '-' && line[7] == '-') {
    if (const auto time = parse_leading_time(line)) {
      where = {0, line.find_first_of(" \t", 19)};
      return time;
    }
  }
  constexpr std::size_t longest_time = 40;
  for (auto bracket = line.find('['); bracket != std::string_view::npos;
       bracket = line.find('[', bracket + 1)) {
    const auto text = line.substr(bracket + 1, longest_time);
    const auto size = text.find(']');
    if (size == std::string_view::npos) continue;
    const auto closing = bracket + 1 + size;
    if (const auto time = bracket_time(text.substr(0, size))) {
      where = {bracket, closing + 1};
      return time;
    }
  }
  where = {0, 0};
  if (const auto time = find_iso_time(line)) return time;
  if (const auto time = time_of_some_word(line, request, where)) return time;
  // "<190>Mar  1 12:00:00"
  if (line.starts_with('<')) line.remove_prefix(std::min(line.find('>'), line.size() - 1) + 1);
  return prefixes_.parse(line);
}

access_log_line access_log_parser::parse(std::string_view line) {
  access_log_line made;
  place request{0, 0};
  place time{0, 0};
  bool found = find_quoted_request(line, made, request);
  if (!found && made.reason != nullptr) return made;
  if (!found && made.what == access_log_line::content::malformed) {
    found = find_bare_request(line, made, request.begin, request.end);
  }
  made.time = find_time(line, request, time);
  if (!found) {
    // A line with a time was written by a server, though nobody asked for anything.
    if (made.time) made.what = access_log_line::content::nothing;
    made.reason =
        made.time ? "the line has no request" : "the line has neither a time nor a request";
    if (!made.time) made.what = access_log_line::content::malformed;
    return made;
  }
  made.what = access_log_line::content::request;
  made.reason = nullptr;
  time.end = std::min(time.end, line.size());
  read_details({line, time.begin, time.end, request.begin, request.end}, made);
  return made;
}

std::optional<std::string_view> access_log_field(std::string_view line, std::size_t n) {
  for (std::size_t i = 1; !line.empty(); ++i) {
    std::string_view field;
    if (line.front() == '"') {
      const auto end = end_of_quoted(line, 1);
      field = line.substr(1, end - 1);
      line.remove_prefix(std::min(end + 1, line.size()));
    } else if (line.front() == '[' && line.find(']') != std::string_view::npos && i > 1) {
      const auto closing = line.find(']');
      field = line.substr(1, closing - 1);
      line.remove_prefix(closing + 1);
    } else {
      field = line.substr(0, line.find(' '));
      line.remove_prefix(field.size());
    }
    if (i == n) return field;
    line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
  }
  return std::nullopt;
}

}  // namespace singleflight::lab
