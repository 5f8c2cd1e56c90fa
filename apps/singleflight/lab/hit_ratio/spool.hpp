// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "cli/temporary_file.hpp"

namespace singleflight::lab {

/// spool: a sequence of numbers that may be longer than memory. It is written once, and then read
/// from one end to the other, as often as wanted. Its last part is in memory, the rest of a long
/// one in a temporary file.
template <class T>
class spool {
 public:
  /// Throws as temporary_file does.
  void append(T value) {
    if (last_.size() == most_in_memory) {
      if (!file_) file_.emplace();
      file_->append(last_.data(), last_.size() * sizeof(T));
      in_file_ += last_.size();
      last_.clear();
    }
    last_.push_back(value);
  }

  std::uint64_t size() const { return in_file_ + last_.size(); }

  /// cursor: reads a spool from the first value on, or from the last one on. It must not be asked
  /// for more values than there are, and ends when the spool is written.
  class cursor {
   public:
    enum class direction : std::uint8_t { forwards, backwards };

    explicit cursor(const spool& from, direction way = direction::forwards)
        : from_(from), backwards_(way == direction::backwards), left_(from.size()) {}

    T next() {
      if (at_ == end_) load();
      return backwards_ ? *--at_ : *at_++;
    }

   private:
    void load() {
      const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(left_, block));
      // Blocks begin at the same places in both directions.
      const auto count = backwards_ && left_ % block != 0 ? left_ % block : size;
      const auto begin = backwards_ ? left_ - count : from_.size() - left_;
      left_ -= count;
      const T* values = from_.values(begin, static_cast<std::size_t>(count), buffer_);
      at_ = backwards_ ? values + count : values;
      end_ = backwards_ ? values : values + count;
    }

    const spool& from_;
    const bool backwards_;
    std::uint64_t left_;  // values that were not loaded yet
    std::vector<T> buffer_;
    const T* at_ = nullptr;
    const T* end_ = nullptr;
  };

 private:
  static constexpr std::size_t block = 1U << 16U;
  static constexpr std::size_t most_in_memory = 16 * block;

  // The values are in the file or in memory: a block never is in both.
  const T* values(std::uint64_t begin, std::size_t count, std::vector<T>& buffer) const {
    if (begin >= in_file_) return last_.data() + (begin - in_file_);
    buffer.resize(count);
    file_->read(begin * sizeof(T), buffer.data(), count * sizeof(T));
    return buffer.data();
  }

  std::vector<T> last_;
  std::uint64_t in_file_ = 0;
  std::optional<cli::temporary_file> file_;
};

}  // namespace singleflight::lab
