// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>

#include "lab/backend/backend.hpp"

namespace singleflight::lab {

/// backend_choice: the backend that the user asked for; the embedded shop if it names neither a
/// database nor a delay.
struct backend_choice {
  std::string database;  // the path of an SQLite file
  std::string query;     // of the database
  std::size_t connections = 4;
  std::optional<std::chrono::nanoseconds> delay;
};

/// Throws usage_error.
std::unique_ptr<backend> open_backend(const backend_choice& choice);

}  // namespace singleflight::lab
