// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "cli/usage_error.hpp"
#include "lab/log/formats.hpp"
#include "lab/log/oracle_general.hpp"

namespace singleflight::lab {

namespace {

constexpr auto record_size = oracle_general_record::size_in_bytes;

std::uint64_t number_at(std::string_view bytes, std::size_t begin, std::size_t size) {
  std::uint64_t number = 0;
  for (std::size_t i = size; i-- > 0;) {
    number = number << 8U | static_cast<unsigned char>(bytes[begin + i]);
  }
  return number;
}

class oracle_general_format : public line_format {
 public:
  reading read(std::string_view record) override {
    if (record.size() != record_size) return reading::malformed("the record is not complete");
    const auto request = oracle_general_record::from(record);
    key_.clear();
    fmt::format_to(std::back_inserter(key_), "{}", request.object);
    reading made;
    made.what = reading::verdict::request;
    made.key = key_;
    made.time = std::chrono::seconds(request.time);
    made.bytes = request.bytes;
    return made;
  }
  bool has_time() const override { return true; }
  bool counts_seconds() const override { return true; }
  std::string describe() const override { return "oracleGeneral trace, key: object"; }

 private:
  std::string key_;
};

}  // namespace

oracle_general_record oracle_general_record::from(std::string_view bytes) {
  return {static_cast<std::uint32_t>(number_at(bytes, 0, 4)), number_at(bytes, 4, 8),
          static_cast<std::uint32_t>(number_at(bytes, 12, 4)),
          static_cast<std::int64_t>(number_at(bytes, 16, 8))};
}

bool looks_like_oracle_general(std::string_view beginning) {
  constexpr std::size_t most_records = 50;
  constexpr std::int64_t longest_trace = 1LL << 42;
  const auto count = std::min(beginning.size() / record_size, most_records);
  std::uint32_t time = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const auto record = oracle_general_record::from(beginning.substr(i * record_size));
    // There is no next request (-1 or the largest number), or it comes later.
    const bool next_is_sound = record.next == -1 || record.next == INT64_MAX ||
                               (record.next > 0 && record.next < longest_trace);
    if (!next_is_sound || record.time < time) return false;
    time = record.time;
  }
  return count > 0;
}

std::unique_ptr<line_format> recognize_oracle_general(const log_head& head,
                                                      const reading_choice& choice) {
  if (head.lines.empty() || head.lines.front().size() != record_size ||
      !looks_like_oracle_general(head.lines.front())) {
    return nullptr;
  }
  if (choice.key.from != key_choice::part::automatic) {
    throw cli::usage_error(fmt::format(
        "--key-from: {} is an oracleGeneral trace, whose key is the object; omit the option",
        head.name));
  }
  refuse_column_options(head, choice, "oracleGeneral trace");
  if (choice.time.from != time_choice::part::automatic) {
    throw cli::usage_error(fmt::format(
        "--time-from: {} is an oracleGeneral trace, whose time is known; omit the option",
        head.name));
  }
  return std::make_unique<oracle_general_format>();
}

}  // namespace singleflight::lab
