// SPDX-License-Identifier: Apache-2.0
#include "cli/temporary_file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <utility>

#include "cli/usage_error.hpp"

namespace singleflight::cli {
namespace {

/// Sets TMPDIR for the lifetime of the object.
class chosen_folder {
 public:
  explicit chosen_folder(const std::string& folder) {
    if (const char* before = std::getenv("TMPDIR")) before_ = before;
    ::setenv("TMPDIR", folder.c_str(), 1);
  }
  chosen_folder(const chosen_folder&) = delete;
  chosen_folder& operator=(const chosen_folder&) = delete;
  ~chosen_folder() {
    if (before_.empty()) {
      ::unsetenv("TMPDIR");
    } else {
      ::setenv("TMPDIR", before_.c_str(), 1);
    }
  }

 private:
  std::string before_;
};

TEST(temporary_file, reads_what_was_appended) {
  temporary_file file;
  file.append("abc", 3);
  file.append("defg", 4);
  std::array<char, 10> text{};
  EXPECT_EQ(file.read(0, text.data(), 4), 4U);
  EXPECT_EQ(std::string(text.data(), 4), "abcd");
  auto moved = std::move(file);
  EXPECT_EQ(moved.read(5, text.data(), text.size()), 2U) << "there are no more";
  EXPECT_EQ(std::string(text.data(), 2), "fg");
  EXPECT_EQ(moved.read(7, text.data(), text.size()), 0U);
}

// Goal    Nothing is left in the folder, not even while the file is there.
TEST(temporary_file, has_no_name) {
  const auto folder = testing::TempDir() + "has_no_name";
  std::filesystem::create_directory(folder);
  const chosen_folder choice(folder);
  temporary_file file;
  file.append("abc", 3);
  EXPECT_TRUE(std::filesystem::is_empty(folder));
  std::filesystem::remove(folder);
}

TEST(temporary_file, says_how_to_choose_another_folder) {
  const chosen_folder choice("/nowhere/at all");
  try {
    const temporary_file file;
    FAIL() << "there is no such folder";
  } catch (const usage_error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("/nowhere/at all"));
    EXPECT_THAT(error.what(), testing::HasSubstr("TMPDIR=FOLDER"));
  }
}

}  // namespace
}  // namespace singleflight::cli
