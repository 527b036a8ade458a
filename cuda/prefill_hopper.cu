#include "prefill_hopper.hpp"

namespace hip_attn::cuda {

template <typename T>
Status prepare_hopper_attend(std::int64_t, bool& available) {
  available = false;
  return {};
}

template <typename T>
Status launch_hopper_attend(const PrefillParams<T>&, std::int64_t, Stream) {
  return {StatusCode::kUnsupported, "plan.cuda.hopper is true; this build has no such kernel"};
}

#define HIP_ATTN_INSTANTIATE(T)                                  \
  template Status prepare_hopper_attend<T>(std::int64_t, bool&); \
  template Status launch_hopper_attend(const PrefillParams<T>&, std::int64_t, Stream);
HIP_ATTN_INSTANTIATE(float16)
HIP_ATTN_INSTANTIATE(bfloat16)
#undef HIP_ATTN_INSTANTIATE

}  // namespace hip_attn::cuda
