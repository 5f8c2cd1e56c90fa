// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <utility>

#include "lab/backend/backend.hpp"

namespace singleflight::lab {

/// A backend that calls a function of the test for each load.
class fake_backend : public backend {
 public:
  explicit fake_backend(std::function<row(const std::string&)> answer)
      : answer_(std::move(answer)) {}

  row load(const std::string& key, const patience& /*until*/) override { return answer_(key); }
  void interrupt() noexcept override { interrupted = true; }
  std::string name() const override { return "fake"; }
  std::size_t connections() const override { return 0; }

  std::atomic<bool> interrupted = false;

 private:
  std::function<row(const std::string&)> answer_;
};

}  // namespace singleflight::lab
