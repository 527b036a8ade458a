/// The work of a decode step, as the kernel divides it over a GPU.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "hip_attn/attention.hpp"
#include "hip_attn/config.hpp"
#include "hip_attn/cost/gpu.hpp"
#include "hip_attn/cost/reads.hpp"

namespace hip_attn {

/// How the units of a step are spread (cuda/launch/decode.cuh).
struct DecodeTeams {
  int size = 1;              ///< thread blocks of a unit, each on a multiprocessor of its own
  std::int64_t at_once = 1;  ///< units that are worked on at the same time
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
  [[nodiscard]] std::int64_t units() const {
    return std::max<std::int64_t>(1, batch * num_kv_heads);
  }
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

/// Teams of so many thread blocks.
inline DecodeTeams decode_teams_of(int size, const GpuProperties& gpu) {
  const std::int64_t at_once =
      gpu.has_clusters() ? resident_clusters(gpu, size) : gpu.multiprocessors / size;
  return {size, std::max<std::int64_t>(1, at_once)};
}

inline DecodeTeams assumed_decode_teams(const DecodeCall& call, const GpuProperties& gpu) {
  DecodeTeams teams;
  const std::int64_t units = call.units();
  teams.size = static_cast<int>(std::clamp<std::int64_t>(gpu.multiprocessors / units, 1, 16));
  if (gpu.has_clusters()) {
    while (teams.size > 1 && resident_clusters(gpu, teams.size) < units) --teams.size;
  }
  return decode_teams_of(teams.size, gpu);
}

/// Of an H200, whose memory gives 4.4 TB/s to decode: a multiprocessor alone reads 104 GB/s, those
/// of a GPC together, which a cluster does not leave, 690 GB/s. So these parts saturate the memory.
inline constexpr double kSaturatingMultiprocessors = 0.32;
inline constexpr double kSaturatingGpcs = 0.87;

/// Megabytes that a step reads, as if memory alone set the pace: a wave that keeps fewer
/// multiprocessors or GPCs busy than saturate the memory waits for what these can have on the way.
inline double paced_megabytes(double unit_megabytes, const DecodeCall& call,
                              const DecodeTeams& teams, const GpuProperties& gpu) {
  const double gpcs = static_cast<double>(gpu.multiprocessors) / gpu.cluster_multiprocessors;
  double paced = 0.;
  for (std::int64_t units = call.units(); units > 0;) {
    const std::int64_t wave = std::min(units, teams.at_once);
    // All further waves are as full: count them at once.
    const std::int64_t waves = std::max<std::int64_t>(1, units / teams.at_once);
    const double part = static_cast<double>(wave) * teams.size / gpu.multiprocessors;
    double pace = std::max(1., kSaturatingMultiprocessors / part);
    if (gpu.has_clusters()) {
      const double busy = std::min(gpcs, static_cast<double>(wave));
      pace = std::max(pace, kSaturatingGpcs * gpcs / busy);
    }
    paced += static_cast<double>(waves * wave) * unit_megabytes * pace;
    units -= waves * wave;
  }
  return paced;
}

/// The work of a step whose first stage that runs is refresh_from, from 0 to num_stages.
inline DecodeWork decode_work(const HipConfig& config, const DecodeCall& call,
                              const DecodeTeams& teams, const GpuProperties& gpu,
                              int refresh_from) {
  constexpr std::int64_t kWarps = 16;
  DecodeWork work;
  work.num_stages = config.is_window_only() ? 0 : config.num_stages();
  const auto units = static_cast<double>(call.units());
  const UnitReads unit = unit_reads(config, call.group(), call.rows,
                                    std::max<std::int64_t>(0, call.context - call.rows));
  const double row_megabytes = static_cast<double>(call.head_dim * call.element_bytes) * 1e-6;
  // Of more than two waves a unit begins where any other has ended.
  const double even = units / static_cast<double>(teams.at_once);
  const double waves = even > 2. ? even : std::ceil(even);
  // A selection whose keys do not fit the slots of its team at once waits for some of them twice,
  // and again where a search came first. Where memory is busy throughout, others cover the wait.
  const double slots = std::min(32., 222. * 1024. / (64. * static_cast<double>(call.head_dim)));
  const double busy = static_cast<double>(std::min(call.units(), teams.at_once)) * teams.size;
  const bool at_once = static_cast<double>(unit.attended) <= 16. * slots * teams.size;
  const bool waits = work.num_stages > 0 && busy < 0.9 * gpu.multiprocessors && !at_once;
  const double refills = waits ? static_cast<double>(call.head_dim) / 128. : 0.;
  bool searches = false;
  for (int s = refresh_from; s < work.num_stages; ++s) {
    const auto at = static_cast<std::size_t>(s);
    const StageReads& stage = unit.stages[at];
    if (!stage.runs) continue;
    CostWork& of = work.stages[at];
    const auto rows_read = static_cast<double>(stage.rows_read());
    of[CostTerm::kDecodeSearchMemory] =
        paced_megabytes(rows_read * row_megabytes, call, teams, gpu);
    of[CostTerm::kDecodeStages] = waves;
    if (!searches) {
      of[CostTerm::kDecodeSearch] = waves;
      of[CostTerm::kDecodeRounds] = refills;
    }
    searches = true;
    double rounds = 1.;
    if (stage.rule == ScanRule::kDescent) {
      // Eight chunks to a warp, and two such groups on their way.
      rounds = static_cast<double>(ceil_div(stage.chunks, 2 * 8 * kWarps * teams.size));
    }
    of[CostTerm::kDecodeLevels] = waves * stage.levels * rounds;
    if (stage.sums) {
      of[CostTerm::kDecodeSumStages] = waves;
      if (!at_once) of[CostTerm::kDecodeSumRounds] = waves;
      of[CostTerm::kDecodeSumLogits] =
          waves * static_cast<double>(stage.chunks * stage.pooled_rows) * 1e-3;
      of[CostTerm::kDecodeSumKeys] =
          waves * rows_read / teams.size * 1e-3 * static_cast<double>(call.head_dim) / 128.;
    }
    work.reads[at] = units * static_cast<double>(stage.reads);
  }
  const auto keys = static_cast<double>(unit.attended);
  const double block_keys = keys / teams.size;
  const auto row_tiles = static_cast<double>(ceil_div(call.rows * call.group(), std::int64_t{8}));
  work.attend[CostTerm::kDecodeLaunch] = 1.;
  work.attend[CostTerm::kDecodeWaves] = waves - 1.;
  const double megabytes = paced_megabytes(keys * 2. * row_megabytes, call, teams, gpu);
  work.attend[CostTerm::kDecodeAttendMemory] = megabytes;
  work.attend[CostTerm::kDecodeRounds] = refills;
  // 16 keys for eight query rows take an H200's thread block 124 ns, which copies hide where those
  // of a megabyte, 228 ns, take longer.
  const double tiles =
      waves * row_tiles * block_keys / 16. * static_cast<double>(call.head_dim) / 128.;
  work.attend[CostTerm::kDecodeRows] = std::max(0., tiles - megabytes * 228. / 124.) * 1e-3;
  if (call.rows > 1) work.attend[CostTerm::kDecodeGeneral] = 1.;
  if (call.appends) work.attend[CostTerm::kDecodeAppend] = 1.;
  work.attended = units * keys;
  return work;
}

}  // namespace hip_attn
