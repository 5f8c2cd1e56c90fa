// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lab/log/key_choice.hpp"

namespace singleflight::lab {

/// A request line: "GET /a?x=1 HTTP/1.1".
struct request_line {
  std::string_view method;
  std::string_view url;
};

/// Splits a request line, whose version may be missing. Returns null if it is none.
std::optional<request_line> split_request_line(std::string_view text);

/// Whether a word is the name of an HTTP method.
bool is_http_method(std::string_view word);

/// Whether a text looks like the name of a host, with a port or without, and not like an address.
bool looks_like_host(std::string_view text);

/// http_key: makes the key of an HTTP request from its parts, as the user chose.
class http_key {
 public:
  explicit http_key(const reading_choice& choice);

  /// Returns the key, valid until the next call; it is empty if the URL does not have that part.
  /// `host` may be empty.
  std::string_view of(std::string_view url, std::string_view host);

  /// "host and URL"
  std::string describe() const;

 private:
  std::string_view without_ignored(std::string_view url);

  key_choice::part part_;
  std::vector<std::string> ignored_;
  std::string made_;
  std::string kept_;
  bool hosts_ = false;  // some request had a host of its own
};

}  // namespace singleflight::lab
