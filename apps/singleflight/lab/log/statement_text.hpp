// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace singleflight::lab {

/// Writes a statement in one line: white space outside quotes becomes one space, and none is left
/// at the ends.
void in_one_line(std::string_view statement, std::string& out);

/// Writes the first key of a Redis command as MONITOR shows it: "\"GET\" \"user:1\"". Returns false
/// if the command has no key.
bool key_of_redis_command(std::string_view command, std::string& key);

/// Writes the statement that a message of PostgreSQL contains, in one line. Returns false if it
/// contains none: only the execution of a statement is a request, not its parsing.
bool statement_of_postgres(std::string_view message, std::string& statement);

}  // namespace singleflight::lab
