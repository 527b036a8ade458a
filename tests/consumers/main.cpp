// What every consumer of the compiled library runs: one decode step with known keys.
//
//   consumer [cuda|no-cuda]     also checks what the library was built with
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string_view>
#include <vector>

#include "hip_attn/hip_attn.hpp"

namespace {

constexpr std::int64_t kSeqLen = 1000;
constexpr std::int64_t kHeadDim = 64;

bool report(const char* what, const hip_attn::Status& status) {
  if (!status.ok()) std::printf("%s: %s\n", what, status.message().c_str());
  return status.ok();
}

// One chunk of keys points where the query does, so that nearly all probability is theirs and the
// output is their value, if the search finds them.
int decode_finds_the_key() {
  using namespace hip_attn;
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
  if (!report("plan_decode", plan_decode<float>(config, shape, plan))) return 1;
  AttentionArgs<float> args;
  args.q = {q.data(), {1, 1, kHeadDim}};
  args.kv = contiguous_kv(k.data(), v.data(), 1, kSeqLen, 1, kHeadDim);
  args.seq_lens = {seq_lens.data(), {1}};
  args.cu_seqlens_q = {cu_seqlens_q.data(), {2}};
  args.out = {out.data(), {1, 1, kHeadDim}};
  std::vector<std::byte> workspace(plan.workspace_bytes);
  if (!report("run_decode", run_decode(plan, args, workspace))) return 1;
  for (const float x : out) {
    if (std::abs(x - 7.f) > 1e-3f) {
      std::printf("out is %g; it must be 7\n", x);
      return 1;
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::printf("hip_attn %s, CPU %s, CUDA %s\n", hip_attn::version(),
              hip_attn::cpu_instruction_set(), hip_attn::built_with_cuda() ? "built" : "not built");
  if (argc > 1) {
    const bool expects_cuda = std::string_view(argv[1]) == "cuda";
    if (expects_cuda != hip_attn::built_with_cuda()) {
      std::printf("expected %s\n", argv[1]);
      return 1;
    }
  }
  return decode_finds_the_key();
}
