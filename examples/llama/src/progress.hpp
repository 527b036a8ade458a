/// Progress of long work, on stderr: a bar with rate and time left on a terminal, a line every few
/// seconds elsewhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace llama {

class Progress {
 public:
  /// unit: what is counted, "tokens".
  Progress(std::string label, std::int64_t total, std::string unit);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();  ///< ends the bar's line

  void advance(std::int64_t count);

 private:
  using Clock = std::chrono::steady_clock;
  void draw();

  std::string label_;
  std::string unit_;
  std::int64_t total_;
  std::int64_t done_ = 0;
  bool on_terminal_;
  Clock::time_point start_ = Clock::now();
  Clock::time_point drawn_ = start_;
};

}  // namespace llama
