// One operator's call that hip_attn-info was asked about, and what the reports of both share.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>

#include "hip_attn/attention.hpp"
#include "hip_attn/landmarks.hpp"
#include "options.hpp"
#include "plans.hpp"
#include "report.hpp"

namespace hip_attn::info {

inline constexpr double kMilli = 1e3;
inline constexpr double kMicro = 1e6;

/// Everything about one operator's call.
struct Asked {
  const Options& options;
  const Target& target;
  Operator op;
  NamedConfig named;
  AttentionPlan plan;

  std::int64_t rows() const {
    return options.rows > 0 ? options.rows : op == Operator::kPrefill ? options.context : 1;
  }
  std::int64_t element_bytes() const { return plan.cache_type == ElementType::kFloat32 ? 4 : 2; }
  std::int64_t key_bytes() const { return options.kv_heads * options.head_dim * element_bytes(); }
  double kv_bytes() const {
    return 2. * static_cast<double>(options.batch) * static_cast<double>(options.context) *
           static_cast<double>(key_bytes());
  }
  /// Two rows for every complete chunk of every level.
  double landmark_bytes() const {
    double bytes = 0.;
    for (const std::int64_t size : landmark_chunk_sizes(named.config)) {
      bytes += 2. * static_cast<double>(options.batch) *
               static_cast<double>(options.context / size * key_bytes());
    }
    return bytes;
  }
  bool on_device() const { return target.device && target.gpu; }
};

Json terms_report(const CostWork& work);
/// Keys or landmarks that each stage reads, over all units.
Json reads_report(const std::array<double, kMaxStages>& reads, int num_stages);
std::string times_as_long(double longer, double shorter);

/// What the plan does on asked.target.gpu, and the predicted times.
Json prefill_report(const Asked& asked);
/// Writes `offload`: what KV offload would do to a step.
Json decode_report(const Asked& asked, Json& offload);
Json offload_report(const Asked& asked, const DecodeWork& mean, double mean_seconds);

}  // namespace hip_attn::info
