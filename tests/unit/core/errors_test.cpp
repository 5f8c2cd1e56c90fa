// SPDX-License-Identifier: Apache-2.0

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <system_error>

#include <singleflight/core.hpp>

namespace sf = singleflight;

namespace {

// Goal    Every code has its own message, belongs to one category, and converts to std::error_code.
TEST(errors, codes_and_messages) {
  std::set<std::string> messages;
  for (int code = 1; code <= 7; ++code) {
    const std::error_code e = static_cast<sf::flight_errc>(code);
    EXPECT_EQ(&e.category(), &sf::flight_category());
    EXPECT_EQ(e.value(), code);
    EXPECT_TRUE(messages.insert(e.message()).second) << e.message();
  }
  EXPECT_STREQ(sf::flight_category().name(), "singleflight");
  EXPECT_NE(sf::flight_category().message(99).find("unknown"), std::string::npos);
  EXPECT_NE(sf::flight_category().message(99).find("99"), std::string::npos);
}

// Goal    flight_error is a std::system_error that carries its flight_errc.
TEST(errors, flight_error_is_a_system_error) {
  const sf::flight_error e(sf::flight_errc::closed);
  EXPECT_EQ(e.errc(), sf::flight_errc::closed);
  EXPECT_EQ(e.code(), std::error_code(sf::flight_errc::closed));
  EXPECT_NE(std::string(e.what()).find("closed"), std::string::npos);
  const std::system_error& base = e;
  EXPECT_EQ(base.code(), sf::flight_errc::closed);
}

}  // namespace
