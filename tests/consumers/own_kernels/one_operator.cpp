// Links the kernels of one operator, PLAN_OPERATOR, and none of the other.
#include "kernels.hpp"

int main() {
  hip_attn::AttentionPlan plan;
  const hip_attn::Status status = own::PLAN_OPERATOR({}, {.device = hip_attn::kCpu}, plan);
  return status.code() == hip_attn::StatusCode::kUnsupported ? 0 : 1;
}
