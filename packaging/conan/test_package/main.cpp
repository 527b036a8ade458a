// A plan of decode.
#include <cstdio>

#include "hip_attn/hip_attn.hpp"

int main() {
  hip_attn::AttentionShape shape{.batch = 1,
                                 .total_q = 1,
                                 .max_seq_len = 131072,
                                 .num_q_heads = 8,
                                 .num_kv_heads = 2,
                                 .head_dim = hip_attn::built_head_dims().front()};
  hip_attn::AttentionPlan plan;
  const hip_attn::Status status =
      hip_attn::plan_decode<float>(hip_attn::presets::infinite_hip(), shape, plan);
  std::printf("hip_attn %s: %zu bytes of workspace %s\n", hip_attn::version(), plan.workspace_bytes,
              status.message().c_str());
  return status.ok() ? 0 : 1;
}
