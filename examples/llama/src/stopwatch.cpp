#include "stopwatch.hpp"

#include <fmt/format.h>

#include <vector>

#include "text_table.hpp"

namespace llama {

Stopwatch::Stopwatch(Backend& backend)
    : backend_(backend), parts_(backend.times()), start_(std::chrono::steady_clock::now()) {}

TimedRun Stopwatch::lap(const std::string& label) {
  const PartTimes parts = backend_.times();  // waits until all is done
  const auto now = std::chrono::steady_clock::now();
  TimedRun run{label, parts - parts_, std::chrono::duration<double>(now - start_).count()};
  parts_ = parts;
  start_ = now;
  return run;
}

std::string format_times(std::span<const TimedRun> runs) {
  std::vector<std::vector<std::string>> rows = {{"seconds", "embedding", "products", "elementwise",
                                                 "attend prefill", "attend decode", "logits",
                                                 "other", "in all"}};
  for (const TimedRun& run : runs) {
    const auto part = [&](Part part) { return format_seconds(run.parts.of(part)); };
    rows.push_back({run.label, part(Part::kEmbedding), part(Part::kLinear),
                    part(Part::kElementwise), part(Part::kPrefillAttention),
                    part(Part::kDecodeAttention), part(Part::kLogits),
                    format_seconds(run.total - run.parts.total()), format_seconds(run.total)});
  }
  return format_table(rows);
}

Json to_json(const TimedRun& run) {
  return {{"label", run.label},
          {"seconds", run.total},
          {"embedding", run.parts.of(Part::kEmbedding)},
          {"products", run.parts.of(Part::kLinear)},
          {"elementwise", run.parts.of(Part::kElementwise)},
          {"prefill_attention", run.parts.of(Part::kPrefillAttention)},
          {"decode_attention", run.parts.of(Part::kDecodeAttention)},
          {"logits", run.parts.of(Part::kLogits)}};
}

std::string format_seconds(double seconds) {
  return fmt::format("{:.{}f}", seconds, seconds < 1 ? 4 : seconds < 10 ? 3 : 1);
}

}  // namespace llama
