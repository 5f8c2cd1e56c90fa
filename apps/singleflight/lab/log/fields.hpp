// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lab/log/http_key.hpp"
#include "lab/log/key_choice.hpp"
#include "lab/log/line_format.hpp"

namespace singleflight::lab {

/// What a column or a member of a log can be.
enum class field {
  time,
  date,  // of a time that is a clock time only
  key,
  request,    // "GET /a HTTP/1.1"
  url,        // with its query, or without it
  query,      // of the URL
  statement,  // of a database
  host,
  method,
  status,
  duration,
  bytes,
  count  // how many requests the record stands for
};
inline constexpr std::size_t number_of_fields = 13;

/// field_map: which of a log's columns or members is which field.
struct field_map {
  struct place {
    std::optional<std::size_t> index;
    time_unit unit = time_unit::by_size;
  };
  std::array<place, number_of_fields> places;

  place& of(field what) { return places[static_cast<std::size_t>(what)]; }
  const place& of(field what) const { return places[static_cast<std::size_t>(what)]; }
  bool has(field what) const { return of(what).index.has_value(); }
  /// Whether some field is one that can be the key without being chosen.
  bool has_key() const {
    return has(field::key) || has(field::request) || has(field::url) || has(field::statement);
  }
  bool http() const { return has(field::request) || has(field::url); }
};

/// Finds the fields by the names that producers give them: the table is in fields.cpp. The name of
/// a member is its path, "request.uri".
field_map find_fields(const std::vector<std::string>& names);

/// Returns the index of a name, regardless of case and of spaces around it.
std::optional<std::size_t> index_of_name(const std::vector<std::string>& names,
                                         std::string_view name);

/// Sets the time of the map to the one that the user chose. Throws usage_error if `names` do not
/// have it; `kind` is what they are, "column" or "member".
void choose_time(const time_choice& choice, const std::vector<std::string>& names,
                 const std::string& log, const char* kind, field_map& fields);

/// field_reader: makes readings from the values of the fields.
class field_reader {
 public:
  using values = std::array<std::string_view, number_of_fields>;

  field_reader(const field_map& fields, const reading_choice& choice);

  /// `chosen` is the value of the chosen column or member; null if the key is a part of the URL or
  /// found by its name.
  reading read(const values& of, const std::string_view* chosen);
  /// "host and URL", "key"
  std::string describe() const;

 private:
  std::optional<stamp> time_of(std::string_view date, std::string_view time);
  bool set_key(const values& of, reading& made);

  field_map fields_;
  key_choice choice_;
  http_key key_;
  std::string url_;
  std::string time_;
};

}  // namespace singleflight::lab
