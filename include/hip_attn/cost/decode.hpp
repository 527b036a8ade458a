/// The work of a decode step, as the kernel divides it over a GPU.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "hip_attn/attention.hpp"
#include "hip_attn/config.hpp"
#include "hip_attn/cost/gpu.hpp"
#include "hip_attn/cost/reads.hpp"

namespace hip_attn {

/// How the units of a step are spread (cuda/launch/decode.cuh).
struct DecodeTeams {
  int size = 1;             ///< thread blocks of a unit, each on a multiprocessor of its own
  std::int64_t at_once = 1; ///< units that are worked on at the same time
};

/// A step of `batch` requests alike, of `context` keys and `rows` query rows each.
struct DecodeCall {
  std::int64_t batch = 1;
  std::int64_t context = 0;
  std::int64_t rows = 1;
  std::int64_t num_q_heads = 1;
  std::int64_t num_kv_heads = 1;
  std::int64_t head_dim = 128;
  std::int64_t element_bytes = 2;
  bool appends = false;  ///< behind an append_kv, whose time is counted

  [[nodiscard]] std::int64_t group() const { return num_q_heads / num_kv_heads; }
  [[nodiscard]] std::int64_t units() const { return std::max<std::int64_t>(1, batch * num_kv_heads); }
};

struct DecodeWork {
  int num_stages = 0;
  std::array<CostWork, kMaxStages> stages;
  CostWork attend;  ///< the launch included
  std::array<double, kMaxStages> reads{};
  double attended = 0.;

  [[nodiscard]] CostWork all() const {
    CostWork sum = attend;
    for (int s = 0; s < num_stages; ++s) sum.add(stages[static_cast<std::size_t>(s)]);
    return sum;
  }
};

/// Clusters of `size` thread blocks, each of which fills a multiprocessor, that fit the GPU.
inline std::int64_t resident_clusters(const GpuProperties& gpu, int size) {
  const int whole = gpu.multiprocessors / gpu.cluster_multiprocessors;
  const int rest = gpu.multiprocessors % gpu.cluster_multiprocessors;
  return std::int64_t{whole} * (gpu.cluster_multiprocessors / size) + rest / size;
}

inline DecodeTeams assumed_decode_teams(const DecodeCall& call, const GpuProperties& gpu) {
  DecodeTeams teams;
  const std::int64_t units = call.units();
  teams.size = static_cast<int>(std::clamp<std::int64_t>(gpu.multiprocessors / units, 1, 16));
  if (gpu.has_clusters()) {
    while (teams.size > 8 && resident_clusters(gpu, teams.size) < units) --teams.size;
    teams.at_once = std::max<std::int64_t>(1, resident_clusters(gpu, teams.size));
  } else {
    teams.at_once = std::max(1, gpu.multiprocessors / teams.size);
  }
  return teams;
}

/// The work of a step whose first stage that runs is refresh_from, from 0 to num_stages.
inline DecodeWork decode_work(const HipConfig& config, const DecodeCall& call,
                              const DecodeTeams& teams, int refresh_from) {
  constexpr double kWarps = 16.;
  DecodeWork work;
  work.num_stages = config.is_window_only() ? 0 : config.num_stages();
  const auto units = static_cast<double>(call.units());
  const UnitReads unit =
      unit_reads(config, call.group(), call.rows, std::max<std::int64_t>(0, call.context - call.rows));
  const double row_bytes = static_cast<double>(call.head_dim * call.element_bytes);
  const double waves = static_cast<double>(ceil_div(call.units(), teams.at_once));
  for (int s = refresh_from; s < work.num_stages; ++s) {
    const auto at = static_cast<std::size_t>(s);
    const StageReads& stage = unit.stages[at];
    if (!stage.runs) continue;
    CostWork& of = work.stages[at];
    const double megabytes = static_cast<double>(stage.rows_read()) * row_bytes * 1e-6;
    of[CostTerm::kDecodeSearchMemory] = units * megabytes;
    of[CostTerm::kDecodeSearchMultiprocessor] = waves * megabytes / teams.size;
    of[CostTerm::kDecodeStages] = waves;
    if (stage.rule == ScanRule::kDescent || stage.rule == ScanRule::kCentre) {
      // Eight chunks to a warp, and two such groups on their way.
      const std::int64_t at_once = static_cast<std::int64_t>(2. * 8. * kWarps) * teams.size;
      of[CostTerm::kDecodeLevels] =
          waves * stage.levels * static_cast<double>(ceil_div(stage.chunks, at_once));
    } else {
      of[CostTerm::kDecodeLevels] = waves;
    }
    if (stage.sums) {
      of[CostTerm::kDecodeSumStages] = waves;
      of[CostTerm::kDecodeSumLogits] =
          waves * static_cast<double>(stage.chunks * stage.pooled_rows) * 1e-3;
    }
    work.reads[at] = units * static_cast<double>(stage.reads);
  }
  const double keys = static_cast<double>(unit.attended);
  const double megabytes = keys * 2. * row_bytes * 1e-6;
  const double slots = std::min(32., 222. * 1024. / (64. * static_cast<double>(call.head_dim)));
  const double rounds = std::max(1., keys / teams.size / (16. * slots));
  const double row_tiles = static_cast<double>(ceil_div(call.rows * call.group(), std::int64_t{8}));
  work.attend[CostTerm::kDecodeLaunch] = 1.;
  work.attend[CostTerm::kDecodeAttendMemory] = units * megabytes;
  work.attend[CostTerm::kDecodeAttendMultiprocessor] = waves * megabytes / teams.size;
  work.attend[CostTerm::kDecodeRounds] = waves * (rounds - 1.);
  work.attend[CostTerm::kDecodeRows] = waves * row_tiles * keys / 16. / teams.size * 1e-3;
  if (call.appends) work.attend[CostTerm::kDecodeAppend] = 1.;
  work.attended = units * keys;
  return work;
}

}  // namespace hip_attn
