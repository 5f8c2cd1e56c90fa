// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "lab/log/key_choice.hpp"
#include "lab/log/line_format.hpp"

namespace singleflight::lab {

// The log formats. Most producers need no format of their own:
//   - one that gives the parts of a request other names: add the names to the table in fields.cpp;
//   - a trace in columns without a header: add its shape to the table in trace_shapes.cpp;
//   - an access log with fields in other places: see access_log_details.cpp.
// To add another kind of log:
//   1. write <name>_format.cpp: a class derived from line_format, and a function recognize_<name>;
//   2. declare that function here;
//   3. add it to known_formats in formats.cpp;
//   4. name it where the formats are listed for users: the help of --log (lab/log_arguments.cpp),
//      the error for a log that is not recognized (key_per_line_format.cpp), and docs/lab.md;
//   5. add a small log and its .expect file to tests/integration/lab/logs/.

/// log_head: the beginning of a log, from which its format is recognized.
struct log_head {
  std::string name;                // for messages
  std::vector<std::string> lines;  // the first lines that are not blank
};

// Each function returns null if the log is not in its format. It throws usage_error if the log is,
// but lines of that format do not have the chosen key or time.

/// Recognizes the records of an oracleGeneral trace, which line_source returns as lines.
std::unique_ptr<line_format> recognize_oracle_general(const log_head& head,
                                                      const reading_choice& choice);

/// Recognizes the output of databases that contains their statements or commands: Redis MONITOR,
/// memcached -vv, the general log of MySQL, the logs of PostgreSQL.
std::unique_ptr<line_format> recognize_statements(const log_head& head,
                                                  const reading_choice& choice);

/// Recognizes lines with named members: JSON, logfmt, LTSV. A member may contain a line of another
/// format.
std::unique_ptr<line_format> recognize_members(const log_head& head, const reading_choice& choice);

/// Recognizes columns that a header names: CSV with any separator, and W3C's "#Fields".
std::unique_ptr<line_format> recognize_columns(const log_head& head, const reading_choice& choice);

/// Recognizes an access log.
std::unique_ptr<line_format> recognize_access_log(const log_head& head,
                                                  const reading_choice& choice);

/// Recognizes columns without a header: the traces of trace_shapes.hpp, and any others if the user
/// chose the column of the key.
std::unique_ptr<line_format> recognize_unnamed_columns(const log_head& head,
                                                       const reading_choice& choice);

/// Recognizes one key per line. Throws usage_error if the lines do not look like keys.
std::unique_ptr<line_format> recognize_key_per_line(const log_head& head,
                                                    const reading_choice& choice);

/// Refuses --separator and --no-header for a log that is no table; `kind` is what it is.
void refuse_column_options(const log_head& head, const reading_choice& choice,
                           std::string_view kind);

/// Refuses a time that the user chose by its name, in a log whose parts have none.
void refuse_named_time(const log_head& head, const reading_choice& choice, std::string_view kind);

/// Returns the first known format that recognizes the lines; null if they could only be one key per
/// line. Throws usage_error.
std::unique_ptr<line_format> find_format(const log_head& head, const reading_choice& choice);

/// Returns the first known format that recognizes the log. Throws usage_error.
std::unique_ptr<line_format> detect_format(const log_head& head, const reading_choice& choice);

}  // namespace singleflight::lab
