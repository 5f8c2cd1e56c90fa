// SPDX-License-Identifier: Apache-2.0
#include "lab/log/http_key.hpp"

#include <algorithm>
#include <array>

namespace singleflight::lab {

namespace {

using part = key_choice::part;

bool is_letter(char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Where the path of "http://host/path" begins; 0 if the URL has no scheme.
std::size_t path_of(std::string_view url) {
  if (url.empty() || url.front() == '/') return 0;
  const auto scheme = url.find("://");
  if (scheme == std::string_view::npos || scheme > url.find_first_of("/?#")) return 0;
  return std::min(url.find_first_of("/?#", scheme + 3), url.size());
}

std::string_view host_of(std::string_view url) {
  const auto end = path_of(url);
  if (end == 0) return {};
  const auto begin = url.find("://") + 3;
  return url.substr(begin, end - begin);
}

std::string_view path_and_query(std::string_view url) {
  const auto begin = path_of(url);
  return begin > 0 && begin == url.size() ? std::string_view("/") : url.substr(begin);
}

bool matches(std::string_view name, std::string_view pattern) {
  if (pattern.ends_with('*')) return name.starts_with(pattern.substr(0, pattern.size() - 1));
  return name == pattern;
}

}  // namespace

std::optional<request_line> split_request_line(std::string_view text) {
  std::size_t size = 0;
  while (size < text.size() && (is_letter(text[size]) || text[size] == '-' || text[size] == '_')) {
    ++size;
  }
  if (size < 2 || size == text.size() || text[size] != ' ') return std::nullopt;
  const auto method = text.substr(0, size);
  // A client may send spaces inside the URL; the version follows the last " HTTP/".
  const auto version = text.rfind(" HTTP/");
  const bool versioned = version != std::string_view::npos && version >= size;
  auto url = text.substr(size, versioned ? version - size : std::string_view::npos);
  const auto begin = url.find_first_not_of(' ');
  if (begin == std::string_view::npos) return std::nullopt;
  url = url.substr(begin, url.find_last_not_of(' ') - begin + 1);
  const bool like_url = url.front() == '/' || url == "*" || path_of(url) > 0;
  if (!versioned && !like_url && !is_http_method(method)) return std::nullopt;
  return request_line{method, url};
}

bool is_http_method(std::string_view word) {
  constexpr std::array<std::string_view, 18> methods{
      "GET",   "HEAD",  "POST",     "PUT",       "DELETE", "CONNECT", "OPTIONS", "TRACE",  "PATCH",
      "PURGE", "QUERY", "PROPFIND", "PROPPATCH", "MKCOL",  "COPY",    "MOVE",    "REPORT", "LOCK"};
  return std::find(methods.begin(), methods.end(), word) != methods.end();
}

bool looks_like_host(std::string_view text) {
  const auto colon = text.find(':');
  const auto name = text.substr(0, colon);
  if (colon != std::string_view::npos) {
    const auto port = text.substr(colon + 1);
    if (port.empty() || !std::all_of(port.begin(), port.end(), is_digit)) return false;
  }
  const auto in_name = [](char c) { return is_letter(c) || is_digit(c) || c == '-' || c == '.'; };
  if (name.empty() || !std::all_of(name.begin(), name.end(), in_name)) return false;
  if (std::none_of(name.begin(), name.end(), is_letter)) return colon != std::string_view::npos;
  const auto dot = name.find('.');
  const bool dotted = dot != std::string_view::npos && dot > 0 && name.back() != '.';
  return dotted || colon != std::string_view::npos || name == "localhost";
}

http_key::http_key(const reading_choice& choice)
    : part_(choice.key.from), ignored_(choice.ignored_query) {}

std::string_view http_key::without_ignored(std::string_view url) {
  const auto question = url.find('?');
  if (question == std::string_view::npos) return url;
  kept_.assign(url.substr(0, question));
  char before = '?';
  for (auto rest = url.substr(question + 1); !rest.empty();) {
    const auto parameter = rest.substr(0, rest.find('&'));
    rest.remove_prefix(std::min(parameter.size() + 1, rest.size()));
    const auto name = parameter.substr(0, parameter.find('='));
    if (std::any_of(ignored_.begin(), ignored_.end(),
                    [&](const std::string& pattern) { return matches(name, pattern); })) {
      continue;
    }
    kept_ += before;
    kept_ += parameter;
    before = '&';
  }
  return kept_;
}

std::string_view http_key::of(std::string_view url, std::string_view host) {
  url = url.substr(0, url.find('#'));
  if (!ignored_.empty()) url = without_ignored(url);
  switch (part_) {
    case part::path: {
      const auto path = path_and_query(url);
      return path.substr(0, path.find('?'));
    }
    case part::query: {
      const auto question = url.find('?');
      return question == std::string_view::npos ? std::string_view{} : url.substr(question + 1);
    }
    case part::host_path: {
      const auto path = path_and_query(url);
      made_.assign(host.empty() ? host_of(url) : host);
      made_ += path.substr(0, path.find('?'));
      return made_;
    }
    case part::url: return url;
    default: break;
  }
  // A URL with a scheme tells the hosts apart by itself.
  if (host.empty() || url.empty() || path_of(url) > 0) return url;
  hosts_ = true;
  made_.assign(host);
  made_ += url;
  return made_;
}

std::string http_key::describe() const {
  switch (part_) {
    case part::path: return "path";
    case part::query: return "query";
    case part::host_path: return "host and path";
    case part::url: return "URL";
    default: return hosts_ ? "host and URL" : "URL";
  }
}

}  // namespace singleflight::lab
