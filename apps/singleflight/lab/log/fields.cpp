// SPDX-License-Identifier: Apache-2.0
#include "lab/log/fields.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>

#include "cli/usage_error.hpp"
#include "lab/log/words.hpp"

namespace singleflight::lab {

namespace {

struct known_name {
  field what;
  std::string_view name;
  time_unit unit = time_unit::by_size;  // of a time or a duration that is a number
};

// What producers call the parts of a request; of the names of one part the first one counts. A name
// in another case matches too, but the same case goes first. To add a producer, add its names here.
constexpr known_name known_names[] = {
    {field::time, "time_iso8601"},        // nginx
    {field::time, "EdgeStartTimestamp"},  // Cloudflare
    {field::time, "StartUTC"},            // Traefik
    {field::time, "@timestamp"},          // Elastic
    {field::time, "timestamp"},           // cloud load balancers
    {field::time, "start_time"},          // Envoy
    {field::time, "time_local"},          // nginx
    {field::time, "requestTime"},         // API Gateway
    {field::time, "eventTime"},
    {field::time, "event_time"},
    {field::time, "op_time", time_unit::s},  // CacheLib
    {field::time, "ts"},                     // Caddy, Zeek, memcached
    {field::time, "time"},
    {field::time, "datetime"},
    {field::time, "date_time"},
    {field::time, "msec"},      // nginx
    {field::time, "log_time"},  // PostgreSQL
    {field::time, "_time"},     // Splunk
    {field::time, "@t"},
    {field::time, "TimeGenerated"},  // Azure
    {field::time, "starttime"},
    {field::time, "time_stamp"},
    {field::time, "timestamp_ms", time_unit::ms},
    {field::time, "created_at"},
    {field::time, "receiveTimestamp"},
    {field::time, "started_at"},  // Kong
    {field::time, "asctime"},
    {field::date, "date"},
    {field::key, "key"},
    {field::key, "cache_key"},
    {field::key, "obj_id"},  // libCacheSim
    {field::key, "object_id"},
    {field::key, "lba"},
    {field::request, "request"},  // nginx
    {field::request, "request_line"},
    {field::request, "requestLine"},
    {field::request, "req"},           // LTSV
    {field::url, "request_uri"},       // nginx
    {field::url, "ClientRequestURI"},  // Cloudflare
    {field::url, "RequestPath"},       // Traefik
    {field::url, "requestUrl"},        // Google
    {field::url, "requestUri"},        // Azure
    {field::url, "request.uri"},       // Caddy
    {field::url, "request.url"},       // Fastly, pino
    {field::url, "http.url"},
    {field::url, "url.original"},  // Elastic
    {field::url, "http.target"},
    {field::url, "cs-uri"},       // W3C
    {field::url, "cs-uri-stem"},  // IIS, CloudFront
    {field::url, "url"},
    {field::url, "uri"},
    {field::url, "url.path"},  // Elastic
    {field::url, "request_path"},
    {field::url, "request_url"},
    {field::url, "path"},  // Envoy
    {field::query, "cs-uri-query"},
    {field::query, "args"},  // nginx
    {field::query, "query_string"},
    {field::query, "url.query"},
    {field::query, "query"},
    {field::statement, "query"},  // statements, DNS
    {field::statement, "statement"},
    {field::statement, "sql"},
    {field::statement, "sql_text"},
    {field::host, "http_host"},          // nginx
    {field::host, "ClientRequestHost"},  // Cloudflare
    {field::host, "RequestHost"},        // Traefik
    {field::host, "request.host"},       // Caddy
    {field::host, "x-host-header"},      // CloudFront
    {field::host, "cs-host"},            // W3C
    {field::host, "cs(Host)"},
    {field::host, "req.headers.host"},      // pino
    {field::host, "request.headers.host"},  // Kong
    {field::host, "authority"},             // Envoy
    {field::host, ":authority"},
    {field::host, "url.domain"},
    {field::host, "vhost"},
    {field::host, "virtual_host"},
    {field::host, "server_name"},  // nginx
    {field::host, "host"},
    {field::host, "domain"},
    {field::method, "request_method"},       // nginx
    {field::method, "ClientRequestMethod"},  // Cloudflare
    {field::method, "RequestMethod"},        // Traefik
    {field::method, "requestMethod"},        // Google
    {field::method, "request.method"},       // Caddy
    {field::method, "http.request.method"},
    {field::method, "httpMethod"},  // API Gateway, Azure
    {field::method, "cs-method"},   // W3C
    {field::method, "http_method"},
    {field::method, "method"},
    {field::method, "verb"},
    {field::status, "sc-status"},           // W3C
    {field::status, "EdgeResponseStatus"},  // Cloudflare
    {field::status, "DownstreamStatus"},    // Traefik
    {field::status, "response_code"},       // Envoy
    {field::status, "elb_status_code"},
    {field::status, "http.response.status_code"},
    {field::status, "status_code"},
    {field::status, "statusCode"},
    {field::status, "httpStatusCode"},
    {field::status, "status"},
    {field::duration, "request_time", time_unit::s},  // nginx
    {field::duration, "Duration", time_unit::ns},     // Traefik
    {field::duration, "duration"},                    // Caddy (s), Envoy (ms)
    {field::duration, "time-taken"},                  // IIS (ms), CloudFront (s)
    {field::duration, "time_taken"},
    {field::duration, "reqtime", time_unit::s},  // LTSV
    {field::duration, "latency"},                // Google
    {field::duration, "response_time"},
    {field::duration, "responseLatency", time_unit::ms},
    {field::duration, "timeTaken", time_unit::s},  // Azure
    {field::duration, "EdgeTimeToFirstByteMs", time_unit::ms},
    {field::duration, "duration_ms", time_unit::ms},
    {field::duration, "latency_ms", time_unit::ms},
    {field::duration, "elapsed_ms", time_unit::ms},
    {field::duration, "duration_us", time_unit::us},
    {field::duration, "duration_ns", time_unit::ns},
    {field::duration, "service", time_unit::ms},  // Heroku
    {field::duration, "rt", time_unit::s},
    {field::bytes, "body_bytes_sent"},  // nginx
    {field::bytes, "bytes_sent"},
    {field::bytes, "sc-bytes"},               // W3C
    {field::bytes, "EdgeResponseBytes"},      // Cloudflare
    {field::bytes, "DownstreamContentSize"},  // Traefik
    {field::bytes, "responseSize"},           // Google
    {field::bytes, "response_body_len"},      // Zeek
    {field::bytes, "response_size"},
    {field::bytes, "obj_size"},  // libCacheSim
    {field::bytes, "size"},      // Caddy, CacheLib
    {field::bytes, "bytes"},
    {field::count, "op_count"},  // CacheLib
};

bool same_letter(char a, char b) {
  return std::tolower(static_cast<unsigned char>(a)) == std::tolower(static_cast<unsigned char>(b));
}

bool same_name(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), same_letter);
}

// The last part of a path. What clients sent in their headers has no meaning.
std::string_view last_part(std::string_view path) {
  if (path.find("eaders.") != std::string_view::npos) return {};
  return path.substr(path.rfind('.') + 1);
}

std::optional<std::size_t> index_of_known(const std::vector<std::string>& names,
                                          std::string_view known) {
  const auto found = [&](auto matches) -> std::optional<std::size_t> {
    const auto at = std::find_if(names.begin(), names.end(), matches);
    if (at == names.end()) return std::nullopt;
    return static_cast<std::size_t>(at - names.begin());
  };
  if (const auto same = found([&](const std::string& name) { return name == known; })) return same;
  if (const auto whole = index_of_name(names, known)) return whole;
  return found([&](const std::string& name) { return same_name(last_part(name), known); });
}

bool is_absent(std::string_view value) { return value.empty() || value == "-"; }

}  // namespace

std::optional<std::size_t> index_of_name(const std::vector<std::string>& names,
                                         std::string_view name) {
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (same_name(trimmed(names[i]), trimmed(name))) return i;
  }
  return std::nullopt;
}

field_map find_fields(const std::vector<std::string>& names) {
  field_map fields;
  // The same case first: a Duration and a duration are counted in different units.
  for (const bool exact : {true, false}) {
    for (const auto& known : known_names) {
      if (fields.has(known.what)) continue;
      if (exact && std::find(names.begin(), names.end(), known.name) == names.end()) continue;
      fields.of(known.what) = {index_of_known(names, known.name), known.unit};
    }
  }
  return fields;
}

void choose_time(const time_choice& choice, const std::vector<std::string>& names,
                 const std::string& log, const char* kind, field_map& fields) {
  if (choice.from == time_choice::part::automatic) return;
  std::optional<std::size_t> index;
  if (choice.from == time_choice::part::field) {
    if (choice.field <= names.size()) index = choice.field - 1;
  } else {
    index = index_of_name(names, choice.name);
  }
  if (!index) {
    throw cli::usage_error(
        fmt::format("--time-from: {} has no such {}; choose one of these: {}", log, kind,
                    cli::one_line(fmt::format("{}", fmt::join(names, ", ")), 300)));
  }
  fields.of(field::time) = {index, choice.unit};
  fields.of(field::date) = {};
}

field_reader::field_reader(const field_map& fields, const reading_choice& choice)
    : fields_(fields), choice_(choice.key), key_(choice) {}

std::optional<stamp> field_reader::time_of(std::string_view date, std::string_view time) {
  const auto unit = fields_.of(field::time).unit;
  // "12:00:00" needs its date.
  if (!date.empty() && (time.empty() || (time.size() > 2 && time[2] == ':'))) {
    time_.assign(date);
    time_ += 'T';
    time_ += time;
    return parse_trace_time(time.empty() ? date : std::string_view(time_), unit);
  }
  return parse_trace_time(time, unit);
}

// Sets the key, and the method if the request contains it. Returns false if there is no key.
bool field_reader::set_key(const values& of, reading& made) {
  const auto value = [&](field what) { return of[static_cast<std::size_t>(what)]; };
  if (!choice_.of_url() && !value(field::key).empty()) {
    made.key = value(field::key);
    return true;
  }
  auto url = value(field::url);
  if (const auto request = value(field::request); !is_absent(request)) {
    const auto split = split_request_line(request);
    if (split) {
      url = split->url;
      made.method = split->method;
    } else if (url.empty() && request.front() == '/') {
      url = request;
    }
  }
  if (is_absent(url)) {
    made.key = choice_.of_url() ? std::string_view{} : value(field::statement);
    return !made.key.empty();
  }
  const auto query = value(field::query);
  if (!is_absent(query) && url.find('?') == std::string_view::npos) {
    url_.assign(url);
    if (query.front() != '?') url_ += '?';
    url_ += query;
    url = url_;
  }
  made.host = is_absent(value(field::host)) ? std::string_view{} : value(field::host);
  made.key = key_.of(url, made.host);
  return !made.key.empty();
}

reading field_reader::read(const values& of, const std::string_view* chosen) {
  const auto value = [&](field what) { return of[static_cast<std::size_t>(what)]; };
  reading made;
  made.what = reading::verdict::request;
  made.method = is_absent(value(field::method)) ? std::string_view{} : value(field::method);
  if (chosen != nullptr) made.key = *chosen;
  if (chosen == nullptr && !set_key(of, made)) return reading::no_key("there is no such key");
  if (made.key.empty()) return reading::no_key("the key is empty");
  made.time = time_of(value(field::date), value(field::time));
  made.status = http_status(value(field::status));
  if (fields_.has(field::duration)) {
    made.duration = parse_log_duration(value(field::duration), fields_.of(field::duration).unit);
  }
  made.bytes = whole_number(value(field::bytes));
  if (fields_.has(field::count)) {
    const auto count = whole_number(value(field::count));
    constexpr std::uint64_t most = 1'000'000'000;
    if (!count || *count > most) return reading::malformed("the count is not a number");
    if (*count == 0) return reading::no_key("the count is 0");
    made.count = *count;
  }
  return made;
}

std::string field_reader::describe() const {
  if (!choice_.of_url() && fields_.has(field::key)) return "key";
  return fields_.http() ? key_.describe() : "statement";
}

}  // namespace singleflight::lab
