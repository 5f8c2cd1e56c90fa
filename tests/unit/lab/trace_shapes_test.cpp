// SPDX-License-Identifier: Apache-2.0
#include "lab/log/trace_shapes.hpp"

#include <gtest/gtest.h>

#include "lab/log/csv.hpp"

namespace singleflight::lab {
namespace {

std::string shape_of(std::string_view line) {
  for (const auto& shape : trace_shapes()) {
    csv_splitter splitter(shape.separator);
    if (splitter.split(line) && has_shape(splitter.fields(), shape)) return shape.name;
  }
  return "(none)";
}

TEST(trace_shapes, known_traces) {
  EXPECT_EQ(shape_of("5,k:1,17,249,1,get,0"), "Twitter trace");
  EXPECT_EQ(shape_of("0,20941264,8192,W,0.551706"), "SPC trace");
  EXPECT_EQ(shape_of("128166372003061629,hm,1,Read,383496192,32768,413"), "MSR trace");
  EXPECT_EQ(shape_of("3,R,126703644672,4096,1577808000000046"), "Alibaba trace");
  EXPECT_EQ(shape_of("5 1 0 0"), "ARC trace");
  for (const char* line : {"", "a,b", "5,k,17,249,1,get", "0,1,2,X,0.5", "5 1 0", "5 1 0 x"}) {
    EXPECT_EQ(shape_of(line), "(none)") << line;
  }
}

}  // namespace
}  // namespace singleflight::lab
