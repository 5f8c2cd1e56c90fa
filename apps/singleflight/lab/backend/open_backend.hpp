// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>

#include "lab/backend/backend.hpp"

namespace singleflight::lab {

/// backend_choice: the backend to use; the embedded shop if neither a database nor a delay is set.
struct backend_choice {
  std::string database;  // the path of an SQLite file
  std::string query;     // for the database
  std::size_t connections = 4;
  std::optional<std::chrono::nanoseconds> delay;
};

/// Opens it. To add a backend, add its choice above and a line to this function. Throws
/// usage_error.
std::unique_ptr<backend> open_backend(const backend_choice& choice);

}  // namespace singleflight::lab
