#include "hip_attn/sink_logits.hpp"

#include <cstdint>

#include "hip_attn/build_info.hpp"
#include "hip_attn/cpu/sink_logits.hpp"
#include "hip_attn_instantiations.hpp"
#include "openmp_runtime.hpp"
#include "validate.hpp"

#if HIP_ATTN_HAS_CUDA
#include "cuda_backend.hpp"
#endif

namespace hip_attn {
namespace {

// Elements below which threads take longer to wake than to work.
constexpr std::int64_t kParallelElements = 1 << 16;

template <Element T>
Status check_args(const AddSinkLogitsArgs<T>& args) {
  HIP_ATTN_RETURN_IF_ERROR(detail::check_array("sink_logits", args.sink_logits));
  HIP_ATTN_RETURN_IF_ERROR(detail::check_tensor("out", args.out));
  HIP_ATTN_RETURN_IF_ERROR(detail::check_array("lse", args.lse));
  HIP_ATTN_RETURN_IF_ERROR(detail::check_size("sink_logits.sizes[0]", args.sink_logits.sizes[0],
                                              "heads of out", args.out.sizes[1]));
  HIP_ATTN_RETURN_IF_ERROR(
      detail::check_size("lse.sizes[0]", args.lse.sizes[0], "rows of out", args.out.sizes[0]));
  HIP_ATTN_RETURN_IF_ERROR(
      detail::check_size("lse.sizes[1]", args.lse.sizes[1], "heads of out", args.out.sizes[1]));
  HIP_ATTN_RETURN_IF_ERROR(detail::check_head_dim(args.out.sizes[2]));
  const auto out = detail::extent_of("out", args.out);
  const auto lse = detail::extent_of("lse", args.lse);
  const auto sink_logits = detail::extent_of("sink_logits", args.sink_logits);
  HIP_ATTN_RETURN_IF_ERROR(detail::check_disjoint(out, lse));
  HIP_ATTN_RETURN_IF_ERROR(detail::check_disjoint(out, sink_logits));
  return detail::check_disjoint(lse, sink_logits);
}

}  // namespace

template <Element T>
Status add_sink_logits(Device device, const AddSinkLogitsArgs<T>& args,
                       [[maybe_unused]] Stream stream) {
  HIP_ATTN_RETURN_IF_ERROR(check_args(args));
  if (device.type == DeviceType::kCpu) {
    detail::keep_openmp_loaded();
    const auto [rows, heads, head_dim] = args.out.sizes;
    [[maybe_unused]] const bool is_long = rows * heads * head_dim >= kParallelElements;
#pragma omp parallel for if (is_long)
    for (std::int64_t row = 0; row < args.out.sizes[0]; ++row) {
      for (std::int64_t head = 0; head < args.out.sizes[1]; ++head) {
        cpu::add_sink_logit(args, row, head);
      }
    }
    return {};
  }
  HIP_ATTN_RETURN_IF_ERROR(check_device(device));
#if HIP_ATTN_HAS_CUDA
  return cuda::add_sink_logits(device, args, stream);
#else
  return {};
#endif
}

template Status add_sink_logits(Device, const AddSinkLogitsArgs<float>&, Stream);
template Status add_sink_logits(Device, const AddSinkLogitsArgs<float16>&, Stream);
template Status add_sink_logits(Device, const AddSinkLogitsArgs<bfloat16>&, Stream);

}  // namespace hip_attn
