// SPDX-License-Identifier: Apache-2.0
#include "cli/interrupt.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <system_error>

namespace singleflight::cli {

namespace {

// A signal handler may call very few functions, so it writes to a pipe and a thread does the rest.
std::array<int, 2> signal_pipe{-1, -1};
volatile std::sig_atomic_t received = 0;

extern "C" void on_signal(int number) {
  const int saved = errno;
  received = number;
  const char byte = 1;
  // The pipe can be full only if it already contains a signal.
  [[maybe_unused]] const auto written = ::write(signal_pipe[1], &byte, 1);
  errno = saved;
}

void handle(int number) {
  struct sigaction action {};
  action.sa_handler = on_signal;
  // SA_RESETHAND: the second signal has its default effect. No SA_RESTART: a signal must end a read
  // of standard input.
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  ::sigaction(number, &action, nullptr);
}

}  // namespace

interrupt_watch::interrupt_watch() {
  if (::pipe2(signal_pipe.data(), O_CLOEXEC | O_NONBLOCK) != 0) {
    throw std::system_error(errno, std::generic_category(), "pipe");
  }
  // The read end blocks; the write end does not.
  ::fcntl(signal_pipe[0], F_SETFL, 0);
  // The watcher blocks all signals, so that they interrupt the read of the main thread.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  watcher_ = std::thread([this] {
    char byte = 0;
    while (::read(signal_pipe[0], &byte, 1) < 0 && errno == EINTR) {
    }
    if (byte == 1) source_.request_stop();
  });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  handle(SIGINT);
  handle(SIGTERM);
}

interrupt_watch::~interrupt_watch() {
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
  ::close(signal_pipe[1]);  // ends the watcher
  watcher_.join();
  ::close(signal_pipe[0]);
}

int interrupt_watch::exit_code() const {
  return received == 0 ? 0 : 128 + static_cast<int>(received);
}

}  // namespace singleflight::cli
