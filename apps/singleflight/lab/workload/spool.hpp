// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stop_token>
#include <vector>

#include "cli/interrupt.hpp"
#include "cli/temporary_file.hpp"

namespace singleflight::lab {

/// spool: a sequence of values that may be longer than memory. It is written once, and then read
/// from one end to the other, as often as wanted, also by several threads. Its last part is in
/// memory, the rest of a long one in a temporary file.
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
        : from_(from),
          backwards_(way == direction::backwards),
          block_(block),
          end_of_part_(from.size()),
          left_(from.size()) {}
    /// Reads the values from number `begin` to the one before `end`, forwards and through a small
    /// buffer, so that many parts can be read side by side. Requires that `begin` is a multiple of
    /// small_block.
    cursor(const spool& from, std::uint64_t begin, std::uint64_t end)
        : from_(from),
          backwards_(false),
          block_(small_block),
          end_of_part_(end),
          left_(end - begin) {}
    cursor(const cursor&) = delete;
    cursor& operator=(const cursor&) = delete;

    T next() {
      if (at_ == end_) load();
      return backwards_ ? *--at_ : *at_++;
    }
    /// How many values it can still be asked for.
    std::uint64_t left() const { return left_ + loaded(); }

   private:
    std::uint64_t loaded() const {
      return static_cast<std::uint64_t>(backwards_ ? at_ - end_ : end_ - at_);
    }
    void load() {
      const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(left_, block_));
      // Blocks begin at the same places in both directions.
      const auto count = backwards_ && left_ % block_ != 0 ? left_ % block_ : size;
      const auto begin = backwards_ ? left_ - count : end_of_part_ - left_;
      left_ -= count;
      const T* values = from_.values(begin, static_cast<std::size_t>(count), buffer_);
      at_ = backwards_ ? values + count : values;
      end_ = backwards_ ? values : values + count;
    }

    const spool& from_;
    const bool backwards_;
    const std::size_t block_;
    const std::uint64_t end_of_part_;
    std::uint64_t left_;  // values that were not loaded yet
    std::vector<T> buffer_;
    const T* at_ = nullptr;
    const T* end_ = nullptr;
  };

  static constexpr std::size_t small_block = 1U << 12U;

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

/// Calls is_it(value) for each value in order, until it returns true; returns whether it did.
/// Throws `interrupted` soon after a stop request.
template <class T, class IsIt>
bool any_in(const spool<T>& values, const std::stop_token& stop, IsIt is_it) {
  typename spool<T>::cursor all(values);
  for (std::uint64_t i = 0; i < values.size(); ++i) {
    if (i % 65536 == 0 && stop.stop_requested()) throw cli::interrupted{};
    if (is_it(all.next())) return true;
  }
  return false;
}

/// Calls visit(value) for each value in order. Throws `interrupted` soon after a stop request.
template <class T, class Visit>
void visit_all(const spool<T>& values, const std::stop_token& stop, Visit visit) {
  any_in(values, stop, [&](const T& value) {
    visit(value);
    return false;
  });
}

}  // namespace singleflight::lab
