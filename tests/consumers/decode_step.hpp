// What every consumer of the compiled library runs: one decode step with known keys.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "hip_attn/hip_attn.hpp"

inline bool report(const char* what, const hip_attn::Status& status) {
  if (!status.ok()) std::printf("%s: %s\n", what, status.message().c_str());
  return status.ok();
}

// One chunk of keys points where the query does, so that nearly all probability is theirs and the
// output is their value, if the search finds them.
inline bool decode_finds_the_keys() {
  using namespace hip_attn;
  constexpr std::int64_t kSeqLen = 1000;
  constexpr std::int64_t kHeadDim = 64;
  HipConfig config;
  config.sink = 16;
  config.window = 64;
  config.stages = {ScanStage{.chunk_size = 16, .keep = 128},
                   ScanStage{.chunk_size = 4, .keep = 32}};

  std::vector<float> q(kHeadDim, 1.f);
  std::vector<float> k(kSeqLen * kHeadDim, 0.f);
  std::vector<float> v(kSeqLen * kHeadDim, -1.f);
  std::vector<float> out(kHeadDim, 0.f);
  std::fill_n(k.begin() + 496 * kHeadDim, 16 * kHeadDim, 4.f);
  std::fill_n(v.begin() + 496 * kHeadDim, 16 * kHeadDim, 7.f);
  const std::vector<std::int32_t> seq_lens{kSeqLen};
  const std::vector<std::int32_t> cu_seqlens_q{0, 1};

  AttentionPlan plan;
  const AttentionShape shape{.max_seq_len = kSeqLen, .head_dim = kHeadDim};
  if (!report("plan_decode", plan_decode<float>(config, shape, plan))) return false;
  AttentionArgs<float> args;
  args.q = {q.data(), {1, 1, kHeadDim}};
  args.kv = contiguous_kv(k.data(), v.data(), 1, kSeqLen, 1, kHeadDim);
  args.seq_lens = {seq_lens.data(), {1}};
  args.cu_seqlens_q = {cu_seqlens_q.data(), {2}};
  args.out = {out.data(), {1, 1, kHeadDim}};
  std::vector<std::byte> workspace(plan.workspace_bytes);
  if (!report("run_decode", run_decode(plan, args, workspace))) return false;
  for (const float x : out) {
    if (std::abs(x - 7.f) > 1e-3f) {
      std::printf("out is %g; it must be 7\n", x);
      return false;
    }
  }
  return true;
}
