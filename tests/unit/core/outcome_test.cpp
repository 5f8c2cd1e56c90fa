// SPDX-License-Identifier: Apache-2.0

#include <gtest/gtest.h>

#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "support/death.hpp"
#include <singleflight/core.hpp>

namespace sf = singleflight;

namespace {

// Goal    An outcome holds a value that can be inspected, changed and moved out.
TEST(outcome, holds_a_value) {
  sf::outcome<std::string> o = std::string("v");
  EXPECT_TRUE(o);
  EXPECT_TRUE(o.has_value());
  EXPECT_EQ(*o, "v");
  EXPECT_EQ(o->size(), 1U);
  o.value() += "w";
  EXPECT_EQ(std::as_const(o).value(), "vw");
  EXPECT_FALSE(o.errc().has_value());
  EXPECT_EQ(o.exception(), nullptr);
  const std::string moved = std::move(o).value();
  EXPECT_EQ(moved, "vw");
}

// Goal    Move-only and non-default-constructible values fit.
TEST(outcome, holds_any_value) {
  struct exact {
    explicit exact(int n) : number(n) {}
    int number;
  };
  sf::outcome<std::unique_ptr<int>> unique(std::make_unique<int>(3));
  EXPECT_EQ(**unique, 3);
  const std::unique_ptr<int> out = std::move(unique).value();
  EXPECT_EQ(*out, 3);
  EXPECT_EQ(sf::outcome<exact>(exact(4))->number, 4);
  EXPECT_TRUE(sf::outcome<void>().has_value());
  sf::outcome<void>().value();
}

// Goal    An exception is rethrown with its own type, and there is no errc.
TEST(outcome, holds_the_loads_exception) {
  const sf::outcome<int> o = std::make_exception_ptr(std::out_of_range("far"));
  EXPECT_FALSE(o.has_value());
  EXPECT_FALSE(o.errc().has_value());
  EXPECT_NE(o.exception(), nullptr);
  EXPECT_THROW((void)o.value(), std::out_of_range);
  EXPECT_THROW(o.rethrow(), std::out_of_range);
  EXPECT_THROW(sf::outcome<void>(std::make_exception_ptr(1)).value(), int);
}

// Goal    A flight_errc can be inspected; value() throws it as a flight_error.
TEST(outcome, holds_a_flight_errc) {
  const sf::outcome<int> o = sf::flight_errc::overloaded;
  EXPECT_EQ(o.errc(), sf::flight_errc::overloaded);
  try {
    (void)o.value();
    ADD_FAILURE();
  } catch (const sf::flight_error& e) {
    EXPECT_EQ(e.errc(), sf::flight_errc::overloaded);
  }
  try {
    std::rethrow_exception(o.exception());
  } catch (const std::system_error& e) {
    EXPECT_EQ(e.code(), sf::flight_errc::overloaded);
  }
}

// Goal    A flight_error that a load threw can be inspected as a flight_errc; value() and rethrow()
//         throw the load's own object.
TEST(outcome, holds_a_flight_error_of_the_load) {
  struct refusal : sf::flight_error {
    explicit refusal(int n) : flight_error(sf::flight_errc::rejected), number(n) {}
    int number;
  };
  const std::exception_ptr error = std::make_exception_ptr(refusal(7));
  const sf::outcome<int> o = error;
  EXPECT_FALSE(o.has_value());
  EXPECT_EQ(o.errc(), sf::flight_errc::rejected);
  EXPECT_EQ(o.exception(), error);
  try {
    (void)o.value();
    ADD_FAILURE();
  } catch (const refusal& e) {
    EXPECT_EQ(e.number, 7);
  }
}

// Goal    A null error is a mistake that is detected where the outcome is made, not where it is
//         thrown.
TEST(outcome_death, a_null_error) {
  support::die_apart();
  EXPECT_DEATH((void)sf::outcome<int>(std::current_exception()), "null exception_ptr");
}

// Goal    An outcome whose assignment has thrown holds nothing: it is broken, and every accessor
//         reports that.
TEST(outcome, after_an_assignment_that_threw) {
  struct moody {
    moody(int) {}  // NOLINT(google-explicit-constructor)
    moody(moody&&) { throw std::domain_error("move"); }
    moody& operator=(moody&&) { throw std::domain_error("move"); }
  };
  sf::outcome<moody> o = sf::flight_errc::overloaded;
  sf::outcome<moody> other(1);
  EXPECT_THROW(o = std::move(other), std::domain_error);
  EXPECT_FALSE(o.has_value());
  EXPECT_THROW((void)o.value(), sf::flight_error);
  EXPECT_EQ(o.errc(), sf::flight_errc::broken);
  EXPECT_NE(o.exception(), nullptr);
}

}  // namespace
