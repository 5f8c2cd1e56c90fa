// SPDX-License-Identifier: Apache-2.0
#include "lab/log/access_log_details.hpp"

#include <algorithm>
#include <array>

#include "lab/log/http_key.hpp"
#include "lab/log/words.hpp"

namespace singleflight::lab {

namespace {

using std::chrono::nanoseconds;

bool is_address(std::string_view word) {
  return !word.empty() && word.find_first_of(".:") != std::string_view::npos &&
         word.find_first_not_of("0123456789abcdefABCDEF.:[]") == std::string_view::npos;
}

// "host client ident user [time]": the host is there only if the client follows it, or if it is
// where only a name that nobody knows would be. A bucket of S3 is recognized by what its log has
// after the time.
std::string_view host_before_time(std::string_view before, std::string_view after_time) {
  if (const auto prefix = before.rfind(": "); prefix != std::string_view::npos) {
    before.remove_prefix(prefix + 2);
  }
  word_list words(before);
  const auto first = words.next();
  const auto second = words.next();
  if (second.empty()) return {};
  if (looks_like_host(first) && (is_address(second) || looks_like_host(second))) return first;
  if (!words.next().empty()) {
    // lighttpd: "client host user"; the user of others is the third word, and the second is "-".
    const bool three = words.next().empty();
    return three && is_address(first) && looks_like_host(second) ? second : std::string_view{};
  }
  word_list rest(after_time);
  rest.next();
  rest.next();
  rest.next();
  const auto operation = rest.next();
  const bool s3 = operation.starts_with("REST.") || operation.starts_with("WEBSITE.");
  return s3 ? second : std::string_view{};
}

// "TIME host GET /a HTTP/1.1": the only word between the time and the request. It ends with the
// name of a domain, which those of processes ("web.1") do not.
std::string_view host_before_bare_request(std::string_view between) {
  word_list words(between);
  const auto word = words.next();
  if (!words.next().empty() || !looks_like_host(word)) return {};
  const auto domain = word.substr(word.rfind('.') + 1);
  const bool letters =
      std::all_of(domain.begin(), domain.end(), [](char c) { return c < '0' || c > '9'; });
  return letters && domain.size() < word.size() ? word : std::string_view{};
}

// What HAProxy captured of the request: "{shop.test|agent}".
std::string_view captured_host(std::string_view between) {
  const auto brace = between.find('{');
  if (brace == std::string_view::npos) return {};
  const auto text = between.substr(brace + 1);
  const auto host = text.substr(0, text.find_first_of("|}"));
  return looks_like_host(host) ? host : std::string_view{};
}

// Envoy and Istio: status, flags, perhaps details, then four numbers (bytes received, bytes sent,
// milliseconds, milliseconds of the upstream) and the texts "forwarded for" "agent" "id" "host".
void read_envoy(std::string_view after, access_log_line& made) {
  std::array<std::string_view, 4> last;
  int texts = 0;
  for (;; after.remove_prefix(std::min(after.find_first_of(" \""), after.size()))) {
    after.remove_prefix(std::min(after.find_first_not_of(' '), after.size()));
    if (after.empty()) return;
    if (after.front() != '"') {
      last = {last[1], last[2], last[3], after.substr(0, after.find(' '))};
      continue;
    }
    const auto end = after.find('"', 1);
    if (end == std::string_view::npos) return;
    const auto text = after.substr(1, end - 1);
    after.remove_prefix(end + 1);
    const auto sent = whole_number(last[1]);
    const bool numbers = whole_number(last[0]) && sent && whole_number(last[2]) &&
                         (last[3] == "-" || whole_number(last[3]));
    if (!numbers) continue;
    if (++texts < 4) continue;
    made.bytes = sent;
    made.duration = parse_log_duration(last[2], time_unit::ms);
    if (text != "-") made.host = text;
    return;
  }
}

// "... rt=0.012 ...": seconds, as nginx writes them.
std::optional<nanoseconds> named_duration(std::string_view after) {
  for (const std::string_view name : {" rt=", " request_time=", " rt=\"", " request_time=\""}) {
    const auto at = after.find(name);
    if (at == std::string_view::npos) continue;
    const auto text = after.substr(at + name.size());
    const auto end = text.find_first_not_of("0123456789.");
    if (const auto time = parse_log_duration(text.substr(0, end), time_unit::s)) return time;
  }
  return std::nullopt;
}

// What follows the request: status, size, and at the end of the line a time with its unit, as
// Traefik writes it.
void read_after(std::string_view after, access_log_line& made) {
  word_list words(after);
  auto word = words.next();
  if (word.starts_with("HTTP/")) word = words.next();  // of a request without quotes
  made.status = http_status(word);
  if (made.status != 0) made.bytes = whole_number(words.next());
  if (after.ends_with("ms")) {
    const auto last = after.substr(after.rfind(' ') + 1);
    made.duration = parse_log_duration(last, time_unit::ms);
  } else if (after.find('=') != std::string_view::npos) {
    made.duration = named_duration(after);
  }
}

// AWS's load balancers: three durations, status, status of the target, bytes received, bytes sent.
// HAProxy: "Tq/Tw/Tc/Tr/Tt", status, bytes.
void read_between(std::string_view between, access_log_line& made) {
  word_list words(between);
  std::array<std::string_view, 3> last;
  for (auto word = words.next(); !word.empty(); word = words.next()) {
    made.status = http_status(word);
    if (made.status != 0) break;
    last = {last[1], last[2], word};
  }
  if (made.status == 0) return;
  if (std::count(last[2].begin(), last[2].end(), '/') == 4) {
    made.duration = parse_log_duration(last[2].substr(last[2].rfind('/') + 1), time_unit::ms);
    made.bytes = whole_number(words.next());
    return;
  }
  words.next();
  words.next();
  made.bytes = whole_number(words.next());
  nanoseconds sum{0};
  for (const auto each : last) {
    const auto time = parse_log_duration(each, time_unit::s);
    if (!time) return;
    sum += *time;
  }
  made.duration = sum;
}

// Squid: time, milliseconds, client, result/status, size, and then the request.
void read_squid(std::string_view between, access_log_line& made) {
  word_list words(between);
  const auto elapsed = words.next();
  words.next();
  const auto result = words.next();
  made.status = http_status(result.substr(std::min(result.find('/') + 1, result.size())));
  if (made.status == 0) return;
  made.bytes = whole_number(words.next());
  made.duration = parse_log_duration(elapsed, time_unit::ms);
}

}  // namespace

void read_details(const access_log_places& at, access_log_line& made) {
  const auto after = at.line.substr(at.request_end);
  const bool time_first = at.time_end <= at.request_begin;
  const auto between =
      time_first ? at.line.substr(at.time_end, at.request_begin - at.time_end) : std::string_view{};
  read_after(after, made);
  if (made.status != 0 && at.line.front() == '[' && !made.bytes && after.size() <= 4) {
    // Apache's ssl_request_log: a size, and no status.
    made.bytes = made.status;
    made.status = 0;
  }
  if (made.status == 0 && made.quoted && between.size() > 1) read_between(between, made);
  if (made.status == 0 && !made.quoted && between.size() > 1) read_squid(between, made);
  // After the status Envoy has flags, where others have a size.
  if (made.host.empty() && made.quoted && !made.bytes &&
      at.line.substr(0, at.request_begin).ends_with("] ")) {
    read_envoy(after, made);
  }

  if (!made.host.empty() || !time_first) return;
  if (at.time_begin > 0) {
    made.host = host_before_time(at.line.substr(0, at.time_begin), at.line.substr(at.time_end));
  } else if (between.starts_with(" stdout F ") || between.starts_with(" stderr F ")) {
    // A container's log: what the server wrote begins after the prefix.
    constexpr std::size_t prefix = 10;
    made.host = host_before_time(between.substr(prefix, between.find('[') - prefix), {});
  }
  if (made.host.empty() && between.size() > 1) made.host = captured_host(between);
  if (made.host.empty() && !made.quoted && after.starts_with(" HTTP/")) {
    made.host = host_before_bare_request(between);
  }
}

}  // namespace singleflight::lab
