// SPDX-License-Identifier: Apache-2.0
#include "lab/backend/shop.hpp"

#include <fmt/format.h>
#include <sqlite3.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <utility>

#include "cli/usage_error.hpp"
#include "lab/backend/sqlite_backend.hpp"
#include "lab/backend/sqlite_connection.hpp"

namespace singleflight::lab {

namespace {

constexpr std::uint64_t products = 500;

// Each product has 240 orders, and each customer has 60: a query joins about 14,400 pairs of
// orders.
constexpr const char* schema = R"sql(
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
BEGIN;
CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT NOT NULL, price_cents INTEGER NOT NULL);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER NOT NULL, product INTEGER NOT NULL,
                     quantity INTEGER NOT NULL);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
INSERT INTO products SELECT i, 'Product ' || i, 199 + (i * 7919) % 20000 FROM n;
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 119999)
INSERT INTO orders
SELECT i, ((i * 7919) % 1000003) % 2000, ((i * 104729) % 1000033) % 500 + 1, 1 + i % 3 FROM n;
CREATE INDEX orders_by_product ON orders (product);
CREATE INDEX orders_by_customer ON orders (customer);
COMMIT;
)sql";

constexpr const char* also_bought =
    R"sql(SELECT p.id, p.name, p.price_cents, count(*) AS times, sum(other.quantity) AS pieces
FROM orders AS mine
JOIN orders AS other ON other.customer = mine.customer AND other.product <> mine.product
JOIN products AS p ON p.id = other.product
WHERE mine.product = shop_product(:key)
GROUP BY p.id ORDER BY times DESC, p.id LIMIT 10)sql";

std::uint64_t product_of(std::string_view key) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), number);
  if (error == std::errc{} && end == key.data() + key.size() && number >= 1 && number <= products)
    return number;
  std::uint64_t hash = 0xcbf29ce484222325U;  // FNV-1a
  for (const char c : key) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  return hash % products + 1;
}

void shop_product(sqlite3_context* context, int /*count*/, sqlite3_value** arguments) {
  const auto* text = reinterpret_cast<const char*>(sqlite3_value_text(arguments[0]));
  const auto size = static_cast<std::size_t>(sqlite3_value_bytes(arguments[0]));
  const std::string_view key = text == nullptr ? std::string_view{} : std::string_view(text, size);
  sqlite3_result_int64(context, static_cast<sqlite3_int64>(product_of(key)));
}

void add_functions(sqlite3* database) {
  sqlite3_create_function(database, "shop_product", 1, SQLITE_UTF8 | SQLITE_DETERMINISTIC, nullptr,
                          shop_product, nullptr, nullptr);
}

// A temporary file that the destructor removes.
class temporary_file {
 public:
  temporary_file() {
    std::error_code error;
    auto folder = std::filesystem::temp_directory_path(error);
    if (error) folder = "/tmp";
    path_ = (folder / "singleflight-shop-XXXXXX").string();
    const int fd = ::mkstemp(path_.data());
    if (fd < 0) {
      throw cli::usage_error(
          fmt::format("cannot create a temporary file in {}: {}; set TMPDIR to a writable folder",
                      folder.string(), std::strerror(errno)));
    }
    ::close(fd);
  }
  temporary_file(const temporary_file&) = delete;
  temporary_file& operator=(const temporary_file&) = delete;
  ~temporary_file() { ::unlink(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace

std::unique_ptr<backend> open_shop(std::size_t connections) {
  const temporary_file file;
  try {
    sqlite_connection writer({file.path(), SQLITE_OPEN_READWRITE});
    writer.execute(schema);
  } catch (const sqlite_failure& failure) {
    throw cli::usage_error(fmt::format(
        "cannot create the embedded database {}: {}; set TMPDIR to a folder with 20 MB free",
        file.path(), failure.what()));
  }
  sqlite_backend::settings settings;
  settings.path = "file:" + file.path() + "?immutable=1";
  settings.query = also_bought;
  settings.connections = connections;
  settings.name = fmt::format("embedded shop (SQLite {}, {} products, 120,000 orders)",
                              sqlite3_libversion(), products);
  settings.extra_flags = SQLITE_OPEN_URI;
  settings.on_open = add_functions;
  // The connections keep the file open, so its name can be removed.
  return std::make_unique<sqlite_backend>(std::move(settings));
}

}  // namespace singleflight::lab
