// SPDX-License-Identifier: Apache-2.0
#include "lab/backend/sqlite_connection.hpp"

#include <fmt/format.h>

#include <string_view>

#include "cli/usage_error.hpp"

namespace singleflight::lab {

namespace {

// An answer stays in memory while callers share it; a query without a LIMIT must not exhaust it.
constexpr std::size_t most_answer_bytes = std::size_t{1} << 20U;

const char* kind_of(int code) {
  switch (code & 0xff) {
    case SQLITE_BUSY: return "sqlite_busy";
    case SQLITE_LOCKED: return "sqlite_locked";
    case SQLITE_INTERRUPT: return "interrupted";
    case SQLITE_IOERR: return "sqlite_io_error";
    case SQLITE_CORRUPT: return "sqlite_corrupt";
    case SQLITE_NOMEM: return "sqlite_out_of_memory";
    case SQLITE_TOOBIG: return "sqlite_too_big";
    case SQLITE_SCHEMA: return "sqlite_schema_changed";
    default: return "sqlite_error";
  }
}

}  // namespace

sqlite_connection::sqlite_connection(const settings& open) {
  sqlite3* opened = nullptr;
  const int code = sqlite3_open_v2(open.path.c_str(), &opened, open.flags, nullptr);
  database_.reset(opened);
  if (code != SQLITE_OK) {
    throw sqlite_failure(code, opened != nullptr ? sqlite3_errmsg(opened) : sqlite3_errstr(code));
  }
  sqlite3_extended_result_codes(opened, 1);
  sqlite3_busy_timeout(opened, 1000);
}

void sqlite_connection::execute(const char* sql) {
  const int code = sqlite3_exec(database_.get(), sql, nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) throw sqlite_failure(code, sqlite3_errmsg(database_.get()));
}

void sqlite_connection::prepare(const std::string& query) {
  constexpr std::string_view example =
      "give one SELECT, for example --query 'SELECT * FROM users WHERE id = :key'";
  sqlite3_stmt* prepared = nullptr;
  const char* rest = nullptr;
  const int code = sqlite3_prepare_v3(database_.get(), query.data(), static_cast<int>(query.size()),
                                      SQLITE_PREPARE_PERSISTENT, &prepared, &rest);
  statement_.reset(prepared);
  if (code != SQLITE_OK) {
    throw cli::usage_error(fmt::format("--query: SQLite says: {}; {}",
                                       cli::one_line(sqlite3_errmsg(database_.get())), example));
  }
  const auto begin = query.data();
  const auto left = query.substr(static_cast<std::size_t>(rest - begin));
  if (left.find_first_not_of(" \t\r\n;") != std::string::npos) {
    throw cli::usage_error(fmt::format("--query: it has more than one statement; {}", example));
  }
  if (prepared == nullptr || sqlite3_column_count(prepared) == 0 ||
      sqlite3_stmt_readonly(prepared) == 0) {
    throw cli::usage_error(fmt::format("--query: it is not a query that reads; {}", example));
  }
  key_parameter_ = sqlite3_bind_parameter_index(prepared, ":key");
  if (key_parameter_ == 0) {
    throw cli::usage_error(fmt::format(
        "--query: it has no parameter :key, which stands for the key of the request; {}", example));
  }
  if (sqlite3_bind_parameter_count(prepared) != 1) {
    throw cli::usage_error(fmt::format("--query: it has parameters other than :key; {}", example));
  }
}

// sqlite3_interrupt would not affect a query that is about to begin.
void sqlite_connection::stop_when(const std::atomic<bool>& flag) {
  constexpr int steps_between_checks = 1000;
  sqlite3_progress_handler(
      database_.get(), steps_between_checks,
      [](void* context) {
        return static_cast<const std::atomic<bool>*>(context)->load(std::memory_order_relaxed) ? 1
                                                                                               : 0;
      },
      const_cast<std::atomic<bool>*>(&flag));
}

row sqlite_connection::ask(const std::string& key) {
  sqlite3_stmt* statement = statement_.get();
  // Ends the read transaction on every return path, so that it does not block writers of the file.
  struct reset_guard {
    sqlite3_stmt* statement;
    ~reset_guard() { sqlite3_reset(statement); }
  } const guard{statement};
  sqlite3_bind_text(statement, key_parameter_, key.data(), static_cast<int>(key.size()),
                    SQLITE_STATIC);
  row answer;
  int code = SQLITE_ROW;
  while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
    ++answer.rows;
    if (answer.text.size() > most_answer_bytes) continue;
    for (int column = 0; column < sqlite3_column_count(statement); ++column) {
      if (column > 0) answer.text += '\t';
      const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement, column));
      if (text != nullptr)
        answer.text.append(text, static_cast<std::size_t>(sqlite3_column_bytes(statement, column)));
    }
    answer.text += '\n';
  }
  if (code != SQLITE_DONE) throw backend_error(kind_of(code), sqlite3_errmsg(database_.get()));
  return answer;
}

}  // namespace singleflight::lab
