#include "progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

namespace llama {
namespace {

std::string duration(double seconds) {
  const auto whole = static_cast<std::int64_t>(seconds + 0.5);
  return whole < 60 ? fmt::format("{} s", whole)
                    : fmt::format("{} min {:02} s", whole / 60, whole % 60);
}

}  // namespace

Progress::Progress(std::string label, std::int64_t total, std::string unit)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      total_(total),
      on_terminal_(isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  if (on_terminal_ && done_ > 0) std::fputc('\n', stderr);
}

void Progress::advance(std::int64_t count) {
  done_ = std::min(done_ + count, total_);
  const auto interval = on_terminal_ ? std::chrono::milliseconds(100) : std::chrono::seconds(5);
  const auto now = Clock::now();
  if (now - drawn_ < interval && !(on_terminal_ && done_ == total_)) return;
  drawn_ = now;
  draw();
}

void Progress::draw() {
  const double seconds = std::chrono::duration<double>(drawn_ - start_).count();
  const double rate = static_cast<double>(done_) / std::max(seconds, 1e-9);
  const double left = static_cast<double>(total_ - done_) / std::max(rate, 1e-9);
  const std::string numbers =
      fmt::format("{:3}%  {}/{} {}  {:.0f} {}/s  {} left", 100 * done_ / total_, done_, total_,
                  unit_, rate, unit_, duration(left));
  if (!on_terminal_) {
    fmt::print(stderr, "{}  {}\n", label_, numbers);
    return;
  }
  constexpr std::int64_t kWidth = 24;
  const std::string bar(kWidth * done_ / total_, '#');
  // \x1b[K clears what a longer line left behind.
  fmt::print(stderr, "\r{:<24} [{:<{}}] {}\x1b[K", label_, bar, kWidth, numbers);
  std::fflush(stderr);
}

}  // namespace llama
