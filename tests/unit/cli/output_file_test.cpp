// SPDX-License-Identifier: Apache-2.0
#include "cli/output_file.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "cli/usage_error.hpp"
#include "support/scratch_folder.hpp"

namespace singleflight::cli {
namespace {

TEST(output_file, checking_changes_nothing) {
  const support::scratch_folder folder;
  folder.write("old", "before");
  const output_file kept("--json", folder.file("old"));
  const output_file fresh("--json", folder.file("new"));
  EXPECT_EQ(folder.read("old"), "before");
  EXPECT_EQ(folder.files(), 1U);
}

TEST(output_file, writes_whole_files) {
  const support::scratch_folder folder;
  folder.write("old", "before, and longer than after");
  output_file("--json", folder.file("old")).write("after");
  EXPECT_EQ(folder.read("old"), "after");
  EXPECT_EQ(folder.files(), 1U);
}

TEST(output_file, a_link_stays_a_link) {
  const support::scratch_folder folder;
  folder.write("target", "before");
  std::filesystem::create_symlink(folder.file("target"), folder.file("link"));
  output_file("--json", folder.file("link")).write("after");
  EXPECT_EQ(folder.read("target"), "after");
  EXPECT_TRUE(std::filesystem::is_symlink(folder.file("link")));
}

TEST(output_file, what_is_not_a_regular_file_is_written_directly) {
  output_file("--json", "/dev/null").write("ignored");
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
}

TEST(output_file, what_cannot_be_written_is_refused) {
  const support::scratch_folder folder;
  EXPECT_THROW(output_file("--json", ""), usage_error);
  EXPECT_THROW(output_file("--json", folder.file(".")), usage_error);
  EXPECT_THROW(output_file("--json", folder.file("no/such/folder/x")), usage_error);
  folder.write("plain", "");
  EXPECT_THROW(output_file("--json", folder.file("plain/x")), usage_error);
  EXPECT_THROW(output_file("--json", folder.file(std::string(300, 'n'))), usage_error);
}

}  // namespace
}  // namespace singleflight::cli
