// SPDX-License-Identifier: Apache-2.0
#include "lab/log/line_source.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include "cli/usage_error.hpp"
#include "support/scratch_folder.hpp"

namespace singleflight::lab {
namespace {

using testing::ElementsAre;

std::string write_gzip(const support::scratch_folder& folder, const std::string& name,
                       const std::string& content) {
  gzFile out = gzopen(folder.file(name).c_str(), "wb");
  gzwrite(out, content.data(), static_cast<unsigned>(content.size()));
  gzclose(out);
  return folder.file(name);
}

std::vector<std::string> lines_of(line_source& source) {
  std::vector<std::string> lines;
  for (line_source::line line{}; source.next(line);) lines.emplace_back(line.text);
  return lines;
}

std::vector<std::string> lines_of(const std::string& path) {
  line_source source(path);
  return lines_of(source);
}

TEST(line_source, plain_and_gzip_alike) {
  const support::scratch_folder folder;
  EXPECT_THAT(lines_of(folder.write("a", "one\ntwo\n\nlast")),
              ElementsAre("one", "two", "", "last"));
  EXPECT_THAT(lines_of(write_gzip(folder, "b", "one\ntwo\n\nlast")),
              ElementsAre("one", "two", "", "last"));
  EXPECT_THAT(lines_of(folder.write("c", "")), ElementsAre());
  EXPECT_THAT(lines_of(write_gzip(folder, "d", "")), ElementsAre());
}

TEST(line_source, marks_of_other_systems) {
  const support::scratch_folder folder;
  EXPECT_THAT(lines_of(folder.write("a", "\xEF\xBB\xBFone\r\ntwo\r\n")), ElementsAre("one", "two"));
  EXPECT_THAT(lines_of(folder.write("b", "\xEF\xBB\xBF")), ElementsAre());
  EXPECT_THAT(lines_of(folder.write("c", "a\n\xEF\xBB\xBF")), ElementsAre("a", "\xEF\xBB\xBF"));
}

// Goal    A line longer than the limit is returned once, cut and marked; the next line is complete
//         and has the right number.
TEST(line_source, very_long_lines) {
  const support::scratch_folder folder;
  const std::string longest(line_source::longest_line, 'x');
  const auto path =
      folder.write("a", longest + "\r\n" + longest + "yy\n" + longest + longest + "\nend\n");
  line_source source(path);
  line_source::line line{};
  ASSERT_TRUE(source.next(line));
  EXPECT_FALSE(line.too_long);
  EXPECT_EQ(line.text, longest);
  ASSERT_TRUE(source.next(line));
  EXPECT_TRUE(line.too_long);
  ASSERT_TRUE(source.next(line));
  EXPECT_TRUE(line.too_long);
  EXPECT_LE(line.text.size(), line_source::longest_line + 1);
  ASSERT_TRUE(source.next(line));
  EXPECT_EQ(line.text, "end");
  EXPECT_EQ(line.number, 4U);
  EXPECT_FALSE(source.next(line));
}

// Goal    Of incomplete gzip data the complete lines are returned, and truncated() is true.
TEST(line_source, truncated_gzip) {
  const support::scratch_folder folder;
  std::string text;
  for (int i = 0; i < 20'000; ++i) text += std::to_string(i * 7919 % 104729) + "\n";
  write_gzip(folder, "whole", text);
  const auto packed = folder.read("whole");
  const auto path = folder.write("cut", packed.substr(0, packed.size() / 2));
  line_source source(path);
  const auto lines = lines_of(source);
  EXPECT_TRUE(source.truncated());
  ASSERT_GT(lines.size(), 1000U);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    ASSERT_EQ(lines[i], std::to_string(i * 7919 % 104729));
  }
}

// Goal    Members that were concatenated are one text, and what follows the last one is ignored.
TEST(line_source, gzip_in_several_members) {
  const support::scratch_folder folder;
  write_gzip(folder, "a", "one\n");
  write_gzip(folder, "b", "two\n");
  const auto both = folder.read("a") + folder.read("b");
  EXPECT_THAT(lines_of(folder.write("c", both)), ElementsAre("one", "two"));
  EXPECT_THAT(lines_of(folder.write("d", both + std::string(100, '\0'))),
              ElementsAre("one", "two"));
}

// Goal    Data that must be converted is refused by its name, with the command.
TEST(line_source, foreign_kinds) {
  const support::scratch_folder folder;
  const auto refusal = [&](const std::string& content) -> std::string {
    try {
      lines_of(folder.write("log", content));
    } catch (const cli::usage_error& error) {
      return error.what();
    }
    return "(none)";
  };
  EXPECT_THAT(refusal("PK\x03\x04 and more"), testing::HasSubstr("unzip -p"));
  EXPECT_THAT(refusal("\xFF\xFE"
                      "a"),
              testing::HasSubstr("iconv -f UTF-16 "));
  std::string wide;
  for (const char c : std::string("192.0.2.1 - - \n")) wide += {c, '\0'};
  EXPECT_THAT(refusal(wide), testing::HasSubstr("iconv -f UTF-16LE"));
  EXPECT_EQ(refusal("PKs are text"), "(none)");
  EXPECT_EQ(refusal("BZh is text"), "(none)");
}

TEST(line_source, damaged_gzip) {
  const support::scratch_folder folder;
  std::string text;
  for (int i = 0; i < 20'000; ++i) text += std::to_string(i * 7919 % 104729) + "\n";
  write_gzip(folder, "whole", text);
  auto packed = folder.read("whole");
  for (std::size_t at = packed.size() / 2; at < packed.size() / 2 + 100; ++at) packed[at] = '\x55';
  EXPECT_THROW(lines_of(folder.write("bad", packed)), cli::usage_error);
}

TEST(line_source, files_that_cannot_be_read) {
  const support::scratch_folder folder;
  EXPECT_THROW(line_source(folder.file("missing")), cli::usage_error);
  EXPECT_THROW(line_source(folder.file(".")), cli::usage_error);
}

}  // namespace
}  // namespace singleflight::lab
