/// Where the time of a run went.
#pragma once

#include <chrono>
#include <span>
#include <string>

#include "backend.hpp"
#include "json_file.hpp"

namespace llama {

/// Seconds of something that was run.
struct TimedRun {
  std::string label;
  PartTimes parts;
  double total = 0;  ///< by the clock; what it exceeds the parts by is the host's work and waiting
};

class Stopwatch {
 public:
  explicit Stopwatch(Backend& backend);
  /// What has been run since the start or the last lap.
  TimedRun lap(const std::string& label);

 private:
  Backend& backend_;
  PartTimes parts_;
  std::chrono::steady_clock::time_point start_;
};

/// A table: one line per run, one column per part.
std::string format_times(std::span<const TimedRun> runs);

/// The same of one run.
Json to_json(const TimedRun& run);

/// Milliseconds while they matter.
std::string format_seconds(double seconds);

}  // namespace llama
