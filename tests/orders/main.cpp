// SPDX-License-Identifier: Apache-2.0

// Plays every scene of the memory orders, or each one with the order that it claims broken.
//
//   (nothing)            every scene with no order broken: ThreadSanitizer must report nothing
//   --mutants            each rule broken in each scene that claims it, in a process of its own, a
//                        line each: `mutant | rule | killed by | after N rounds`; exit 1 if one
//                        lives
//   --break RULE SCENE   one of those; --mutants starts this

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <span>
#include <string>
#include <string_view>

#include "orders/scenes.hpp"
#include <singleflight/core/support/config.hpp>

#if !SINGLEFLIGHT_TSAN
#error "orders: without ThreadSanitizer nobody would notice a broken order"
#endif

extern char** environ;

namespace {

namespace platform = singleflight::detail::platform;
using orders::scene;
namespace rule = singleflight::detail::rule;

constexpr int rounds = 50;
constexpr unsigned patience_s = 60;  // per process; a scene that hangs is not a kill
constexpr int reported = 66;         // exit status after a report of ThreadSanitizer

struct mutant {
  singleflight::detail::rule_id which;
  const char* name;
  const char* what;
};
constexpr mutant mutants[] = {
#define SINGLEFLIGHT_RULE(name, what) {rule::name, #name, what},
    SINGLEFLIGHT_ORDER_RULES(SINGLEFLIGHT_RULE)
#undef SINGLEFLIGHT_RULE
};

[[noreturn]] void give_up(const char* what, int error) {
  std::fprintf(stderr, "orders: %s: %s\n", what, std::strerror(error));
  std::exit(2);
}

/// The beginning of each round is written to stderr, before ThreadSanitizer's report.
constexpr std::string_view round_mark = "orders: round ";
void play(const scene& s, bool tell) {
  for (int round = 1; round <= rounds; ++round) {
    if (tell) {
      std::fprintf(stderr, "%.*s%d\n", static_cast<int>(round_mark.size()), round_mark.data(),
                   round);
    }
    s.play();
  }
}

int run_intact() {
  std::string_view before;
  for (const scene& s : orders::all()) {
    if (before == s.name) continue;  // listed again, for another rule
    before = s.name;
    std::printf("%-40s %d rounds\n", s.name, rounds);
    std::fflush(stdout);
    play(s, false);
  }
  return 0;  // if ThreadSanitizer has reported, it ends the process with another status
}

int run_broken(const char* name, const char* scene_name) {
  for (const mutant& m : mutants) {
    if (std::strcmp(m.name, name) != 0) continue;
    for (const scene& s : orders::all()) {
      if (s.claims != m.which || std::strcmp(s.name, scene_name) != 0) continue;
      ::alarm(patience_s);
      platform::broken_rule = m.which;
      play(s, true);
      return 0;
    }
  }
  std::fprintf(stderr, "orders: no scene '%s' claims '%s'\n", scene_name, name);
  return 2;
}

struct ending {
  int status = 0;
  std::string output;  ///< on stderr
};

/// Runs this program once more, with one rule broken in one scene.
ending run_apart(const mutant& m, const scene& s) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) give_up("pipe2", errno);
  posix_spawn_file_actions_t actions;
  int error = ::posix_spawn_file_actions_init(&actions);
  if (error == 0) {
    error = ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
  }
  if (error != 0) give_up("posix_spawn_file_actions", error);

  std::array<std::string, 4> words = {"orders", "--break", m.name, s.name};
  std::array<char*, 5> arguments{};
  std::transform(words.begin(), words.end(), arguments.begin(),
                 [](std::string& word) { return word.data(); });
  pid_t child = 0;
  error = ::posix_spawn(&child, "/proc/self/exe", &actions, nullptr, arguments.data(), environ);
  if (error != 0) give_up("posix_spawn", error);
  (void)::posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);

  ending end;
  std::array<char, 4096> piece{};
  for (;;) {
    const ssize_t n = ::read(ends[0], piece.data(), piece.size());
    if (n > 0) end.output.append(piece.data(), static_cast<std::size_t>(n));
    if (n == 0) break;
    if (n < 0 && errno != EINTR) give_up("read", errno);
  }
  ::close(ends[0]);
  while (::waitpid(child, &end.status, 0) < 0) {
    if (errno != EINTR) give_up("waitpid", errno);
  }
  return end;
}

int last_round(const std::string& output) {
  const std::size_t at = output.rfind(round_mark);
  return at == std::string::npos ? 0 : std::atoi(output.c_str() + at + round_mark.size());
}

/// "ThreadSanitizer: data race at file.hpp:12" or "... in operator delete", taken from the line
/// "SUMMARY: ThreadSanitizer: data race /path/file.hpp:12 in function(arguments)".
std::string verdict(const std::string& output) {
  constexpr std::string_view mark = "SUMMARY: ";
  const std::size_t at = output.rfind(mark);
  if (at == std::string::npos) return {};
  std::string_view line = std::string_view(output).substr(at + mark.size());
  line = line.substr(0, line.find('\n'));
  const std::size_t in = line.find(" in ");
  const std::string_view where = line.substr(0, in);
  const std::size_t path = where.find_first_of("/(.");
  if (path == std::string_view::npos) return std::string(line);
  const std::string kind(where.substr(0, path));
  const std::string_view file = where.substr(where.rfind('/') + 1);
  const bool ours = file.find("pp:") != std::string_view::npos && !file.starts_with("tsan_");
  if (ours || in == std::string_view::npos) {
    return kind + "at " + std::string(file);
  }
  return kind + std::string(line.substr(in + 1, line.find('(', in) - in - 1));
}

/// Prints a line; false when the mutant lives, or when it ended other than by a race: a crash is
/// not a kill.
bool try_mutant(const mutant& m, const scene& s) {
  const ending end = run_apart(m, s);
  const std::string killer = verdict(end.output);
  const bool exited = WIFEXITED(end.status);
  const bool race = killer.find("data race") != std::string::npos ||
                    killer.find("use-after-free") != std::string::npos;
  const bool killed = exited && WEXITSTATUS(end.status) == reported && race;
  const bool lives = exited && WEXITSTATUS(end.status) == 0;
  std::printf("%s | %s | %s: %s | %d\n", m.name, m.what, s.name,
              killed  ? killer.c_str()
              : lives ? "LIVES"
                      : "ended, but not by a race",
              last_round(end.output));
  std::fflush(stdout);
  if (!killed && !lives) {
    std::fprintf(stderr, "orders: %s: wait status %#x; its output:\n%s\n", m.name,
                 static_cast<unsigned>(end.status), end.output.c_str());
  }
  return killed;
}

int run_mutants() {
  const char* const set = std::getenv("TSAN_OPTIONS");
  const std::string options = std::string(set != nullptr ? set : "") +
                              " halt_on_error=1 exitcode=" + std::to_string(reported);
  if (::setenv("TSAN_OPTIONS", options.c_str(), 1) != 0) give_up("setenv", errno);
  int living = 0;
  std::printf("mutant | rule | killed by | after N rounds\n");
  for (const mutant& m : mutants) {
    bool claimed = false;
    for (const scene& s : orders::all()) {
      if (s.claims != m.which) continue;
      claimed = true;
      if (!try_mutant(m, s)) ++living;
    }
    if (!claimed) {
      std::printf("%s | %s | no scene claims it: LIVES | 0\n", m.name, m.what);
      ++living;
    }
  }
  return living == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 1) return run_intact();
  if (argc == 2 && std::strcmp(argv[1], "--mutants") == 0) return run_mutants();
  if (argc == 4 && std::strcmp(argv[1], "--break") == 0) return run_broken(argv[2], argv[3]);
  std::fprintf(stderr, "usage: %s [--mutants | --break RULE SCENE]\n", argv[0]);
  return 2;
}
