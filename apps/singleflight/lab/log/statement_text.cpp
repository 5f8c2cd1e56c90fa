// SPDX-License-Identifier: Apache-2.0
#include "lab/log/statement_text.hpp"

#include <algorithm>
#include <array>
#include <cctype>

#include "lab/log/words.hpp"

namespace singleflight::lab {

namespace {

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Appends the character that follows the backslash at text[at], and moves `at` to its last one.
void take_escape(std::string_view text, std::size_t& at, std::string& out) {
  if (++at == text.size()) return;
  switch (text[at]) {
    case 'n': out += '\n'; return;
    case 'r': out += '\r'; return;
    case 't': out += '\t'; return;
    case 'a': out += '\a'; return;
    case 'b': out += '\b'; return;
    case 'x':
      if (at + 2 < text.size() && hex_digit(text[at + 1]) >= 0 && hex_digit(text[at + 2]) >= 0) {
        out += static_cast<char>(hex_digit(text[at + 1]) * 16 + hex_digit(text[at + 2]));
        at += 2;
        return;
      }
      [[fallthrough]];
    default: out += text[at];
  }
}

// Takes a "quoted \"argument\"" from the front of `rest`. Returns false if there is none.
bool take_argument(std::string_view& rest, std::string& out) {
  rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
  if (rest.empty() || rest.front() != '"') return false;
  out.clear();
  std::size_t at = 1;
  for (; at < rest.size() && rest[at] != '"'; ++at) {
    if (rest[at] == '\\') {
      take_escape(rest, at, out);
    } else {
      out += rest[at];
    }
  }
  rest.remove_prefix(std::min(at + 1, rest.size()));
  return true;
}

// Commands whose arguments are no keys.
bool has_no_key(std::string_view command) {
  constexpr std::array<std::string_view, 42> commands{
      "ACL",      "AUTH",    "BGREWRITEAOF", "BGSAVE",    "CLIENT",      "CLUSTER",    "COMMAND",
      "CONFIG",   "DBSIZE",  "DEBUG",        "DISCARD",   "ECHO",        "EXEC",       "FAILOVER",
      "FLUSHALL", "FLUSHDB", "HELLO",        "INFO",      "KEYS",        "LASTSAVE",   "LATENCY",
      "MEMORY",   "MODULE",  "MONITOR",      "MULTI",     "PING",        "PSUBSCRIBE", "PSYNC",
      "PUBLISH",  "PUBSUB",  "QUIT",         "READONLY",  "REPLCONF",    "ROLE",       "SCAN",
      "SCRIPT",   "SELECT",  "SLOWLOG",      "SUBSCRIBE", "UNSUBSCRIBE", "WAIT",       "XGROUP"};
  return std::find(commands.begin(), commands.end(), command) != commands.end();
}

}  // namespace

void in_one_line(std::string_view statement, std::string& out) {
  out.clear();
  char quote = '\0';
  for (const char c : statement) {
    if (quote == '\0' && is_space(c)) {
      if (!out.empty() && out.back() != ' ') out += ' ';
      continue;
    }
    if (quote == c) {
      quote = '\0';
    } else if (quote == '\0' && (c == '\'' || c == '"' || c == '`')) {
      quote = c;
    }
    out += c;
  }
  if (out.ends_with(' ')) out.pop_back();
}

bool key_of_redis_command(std::string_view command, std::string& key) {
  if (!take_argument(command, key)) return false;
  std::string name = key;
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  if (has_no_key(name)) return false;
  if (name.starts_with("EVAL") || name.starts_with("FCALL")) {
    // The script, the number of keys, the keys.
    if (!take_argument(command, key)) return false;
    if (!take_argument(command, key) || key == "0") return false;
  }
  return take_argument(command, key) && !key.empty();
}

bool statement_of_postgres(std::string_view message, std::string& statement) {
  // "statement: S", "execute NAME: S"; the names before them are of the client.
  auto begin = message.find("statement: ");
  if (begin != std::string_view::npos) {
    begin += 11;
  } else {
    begin = message.find("execute ");
    if (begin == std::string_view::npos) return false;
    begin = message.find(": ", begin);
    if (begin == std::string_view::npos) return false;
    begin += 2;
  }
  in_one_line(message.substr(begin), statement);
  return !statement.empty();
}

}  // namespace singleflight::lab
