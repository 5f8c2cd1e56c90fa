// SPDX-License-Identifier: Apache-2.0
#include "lab/backend/open_backend.hpp"

#include <utility>

#include "lab/backend/delay_backend.hpp"
#include "lab/backend/shop.hpp"
#include "lab/backend/sqlite_backend.hpp"

namespace singleflight::lab {

std::unique_ptr<backend> open_backend(const backend_choice& choice) {
  if (choice.delay) return std::make_unique<delay_backend>(*choice.delay);
  if (choice.database.empty()) return open_shop(choice.connections);
  sqlite_backend::settings settings;
  settings.path = choice.database;
  settings.query = choice.query;
  settings.connections = choice.connections;
  return std::make_unique<sqlite_backend>(std::move(settings));
}

}  // namespace singleflight::lab
