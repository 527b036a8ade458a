// The operators on CUDA: from the values of a plan to the instances of this build.
#include <concepts>
#include <string>

#include "cuda_backend.hpp"
#include "head_dims.hpp"
#include "hip_attn_instantiations.hpp"
#include "instances.hpp"

namespace hip_attn::cuda {
namespace {

template <Element T>
inline constexpr bool kBuilt = std::same_as<T, float16>    ? HIP_ATTN_BUILT_float16
                               : std::same_as<T, bfloat16> ? HIP_ATTN_BUILT_bfloat16
                                                           : false;

// visit.operator()<Traits>() for the instance of cache type C that a head dim has.
template <Element C, typename Visit>
Status visit_traits(std::int64_t head_dim, Visit&& visit) {
  return visit_head_dim(head_dim, [&]<int kHeadDim>() {
    return visit.template operator()<AttentionTraits<C, kHeadDim>>();
  });
}

Status unsupported_cache(const char* name) {
  return {StatusCode::kUnsupported, std::string("the cache's element type is float; ") + name +
                                        " on CUDA takes caches of float16 and bfloat16"};
}

template <typename Visit>
Status visit_cache_type(const AttentionPlan& plan, const char* name, Visit&& visit) {
  const std::int64_t head_dim = plan.shape.head_dim;
  if constexpr (kBuilt<float16>) {
    if (plan.cache_type == ElementType::kFloat16) return visit_traits<float16>(head_dim, visit);
  }
  if constexpr (kBuilt<bfloat16>) {
    if (plan.cache_type == ElementType::kBFloat16) return visit_traits<bfloat16>(head_dim, visit);
  }
  return unsupported_cache(name);
}

}  // namespace

#define HIP_ATTN_EXTERN(T, kHeadDim)            \
  HIP_ATTN_DECODE_INSTANCE(extern, T, kHeadDim) \
  HIP_ATTN_PREFILL_INSTANCE(extern, T, kHeadDim)
#define HIP_ATTN_EXTERN_FLOAT16(kHeadDim) HIP_ATTN_EXTERN(float16, kHeadDim)
#define HIP_ATTN_EXTERN_BFLOAT16(kHeadDim) HIP_ATTN_EXTERN(bfloat16, kHeadDim)
HIP_ATTN_FOR_EACH_HEAD_DIM(HIP_ATTN_EXTERN_FLOAT16)
HIP_ATTN_FOR_EACH_HEAD_DIM(HIP_ATTN_EXTERN_BFLOAT16)

Status plan_decode(AttentionPlan& plan) {
  return visit_cache_type(plan, "decode",
                          [&]<typename Traits>() { return plan_decode<Traits>(plan); });
}

Status plan_prefill(AttentionPlan& plan) {
  return visit_cache_type(plan, "prefill",
                          [&]<typename Traits>() { return plan_prefill<Traits>(plan); });
}

template <Element T, StoredFor<T> C>
Status run_decode(const AttentionPlan& plan, const AttentionArgs<T, C>& args, std::byte* workspace,
                  Stream stream) {
  if constexpr (kBuilt<C>) {
    return visit_traits<C>(plan.shape.head_dim, [&]<typename Traits>() {
      return run_decode<Traits, T>(plan, args, workspace, stream);
    });
  } else {
    return unsupported_cache("decode");
  }
}

template <Element T, StoredFor<T> C>
Status run_prefill(const AttentionPlan& plan, const AttentionArgs<T, C>& args, std::byte* workspace,
                   Stream stream) {
  if constexpr (kBuilt<C>) {
    return visit_traits<C>(plan.shape.head_dim, [&]<typename Traits>() {
      return run_prefill<Traits, T>(plan, args, workspace, stream);
    });
  } else {
    return unsupported_cache("prefill");
  }
}

#define HIP_ATTN_INSTANTIATE(T, C)                                                         \
  template Status run_decode(const AttentionPlan&, const AttentionArgs<T, C>&, std::byte*, \
                             Stream);                                                      \
  template Status run_prefill(const AttentionPlan&, const AttentionArgs<T, C>&, std::byte*, Stream);
HIP_ATTN_FOR_EACH_TYPE_PAIR(HIP_ATTN_INSTANTIATE)
#undef HIP_ATTN_INSTANTIATE

}  // namespace hip_attn::cuda
