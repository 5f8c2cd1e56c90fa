// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: a string of wide characters whose traits have an eq of their own
#include <string>

#include <singleflight/flight.hpp>

struct caseless : std::char_traits<wchar_t> {
  static bool eq(wchar_t a, wchar_t b) { return (a | 32) == (b | 32); }
};

singleflight::group<std::basic_string<wchar_t, caseless>, int> flights;
bool forgotten = flights.forget(L"key");
