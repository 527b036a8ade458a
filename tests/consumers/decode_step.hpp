// What every consumer of the compiled library runs: one decode step with known keys, in an element
// type and a head dim that it was built with.
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
template <hip_attn::Element T>
bool decode_finds_the_keys() {
  using namespace hip_attn;
  constexpr std::int64_t kSeqLen = 1000;
  const std::int64_t head_dim = built_head_dims().front();
  HipConfig config;
  config.sink = 16;
  config.window = 64;
  config.stages = {ScanStage{.chunk_size = 16, .keep = 128},
                   ScanStage{.chunk_size = 4, .keep = 32}};

  const auto tensor = [head_dim](std::int64_t rows, float value) {
    return std::vector<T>(static_cast<std::size_t>(rows * head_dim), from_float<T>(value));
  };
  const std::vector<T> q = tensor(1, 1.f);
  std::vector<T> k = tensor(kSeqLen, 0.f);
  std::vector<T> v = tensor(kSeqLen, -1.f);
  std::vector<T> out = tensor(1, 0.f);
  std::fill_n(k.begin() + 496 * head_dim, 16 * head_dim, from_float<T>(4.f));
  std::fill_n(v.begin() + 496 * head_dim, 16 * head_dim, from_float<T>(7.f));
  const std::vector<std::int32_t> seq_lens{kSeqLen};
  const std::vector<std::int32_t> cu_seqlens_q{0, 1};

  AttentionPlan plan;
  const AttentionShape shape{.max_seq_len = kSeqLen, .head_dim = head_dim};
  if (!report("plan_decode", plan_decode<T>(config, shape, plan))) return false;
  AttentionArgs<T> args;
  args.q = {q.data(), {1, 1, head_dim}};
  args.kv = contiguous_kv<T>(k.data(), v.data(), 1, kSeqLen, 1, head_dim);
  args.seq_lens = {seq_lens.data(), {1}};
  args.cu_seqlens_q = {cu_seqlens_q.data(), {2}};
  args.out = {out.data(), {1, 1, head_dim}};
  std::vector<std::byte> workspace(plan.workspace_bytes);
  if (!report("run_decode", run_decode(plan, args, workspace))) return false;
  for (const T x : out) {
    if (std::abs(to_float(x) - 7.f) > 1e-3f) {
      std::printf("out is %g; it must be 7\n", static_cast<double>(to_float(x)));
      return false;
    }
  }
  return true;
}

// In a type that the library was built with.
inline bool decode_finds_the_keys() {
  switch (hip_attn::built_element_types().front()) {
    case hip_attn::ElementType::kFloat32:
      return decode_finds_the_keys<float>();
    case hip_attn::ElementType::kFloat16:
      return decode_finds_the_keys<hip_attn::float16>();
    case hip_attn::ElementType::kBFloat16:
      return decode_finds_the_keys<hip_attn::bfloat16>();
  }
  return false;
}
