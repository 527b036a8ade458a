#include <fmt/format.h>

#include <cstdint>

#include "hip_attn/build_info.hpp"
#include "hip_attn/cpu/merge.hpp"
#include "hip_attn/merge.hpp"
#include "hip_attn_instantiations.hpp"
#include "openmp_runtime.hpp"
#include "validate.hpp"

#if HIP_ATTN_HAS_CUDA
#include "cuda_backend.hpp"
#endif

namespace hip_attn {
namespace {

using detail::check_array;
using detail::check_size;
using detail::check_tensor;
using detail::extent_of;
using detail::Name;

template <Element T>
Status check_args(const MergeStatesArgs<T>& args) {
  HIP_ATTN_RETURN_IF_ERROR(detail::check_element_type(kElementType<T>));
  HIP_ATTN_RETURN_IF_ERROR(check_tensor("partial_out", args.partial_out));
  HIP_ATTN_RETURN_IF_ERROR(check_array("partial_lse", args.partial_lse));
  HIP_ATTN_RETURN_IF_ERROR(check_tensor("out", args.out));
  for (int i = 0; i < 3; ++i) {
    HIP_ATTN_RETURN_IF_ERROR(check_size(Name("partial_lse.sizes", i), args.partial_lse.sizes[i],
                                        "as partial_out", args.partial_out.sizes[i]));
    HIP_ATTN_RETURN_IF_ERROR(check_size(Name("out.sizes", i), args.out.sizes[i], "as partial_out",
                                        args.partial_out.sizes[i + 1]));
  }
  HIP_ATTN_RETURN_IF_ERROR(detail::check_head_dim(args.out.sizes[2]));
  const auto check_output = [&](const detail::Extent& output) -> Status {
    HIP_ATTN_RETURN_IF_ERROR(
        detail::check_disjoint(output, extent_of("partial_out", args.partial_out)));
    return detail::check_disjoint(output, extent_of("partial_lse", args.partial_lse));
  };
  HIP_ATTN_RETURN_IF_ERROR(check_output(extent_of("out", args.out)));
  if (!args.lse) return {};
  HIP_ATTN_RETURN_IF_ERROR(check_array("lse", *args.lse));
  HIP_ATTN_RETURN_IF_ERROR(
      check_size("lse.sizes[0]", args.lse->sizes[0], "rows of out", args.out.sizes[0]));
  HIP_ATTN_RETURN_IF_ERROR(
      check_size("lse.sizes[1]", args.lse->sizes[1], "heads of out", args.out.sizes[1]));
  HIP_ATTN_RETURN_IF_ERROR(check_output(extent_of("lse", *args.lse)));
  return detail::check_disjoint(extent_of("lse", *args.lse), extent_of("out", args.out));
}

}  // namespace

template <Element T>
Status merge_states(Device device, const MergeStatesArgs<T>& args, [[maybe_unused]] Stream stream) {
  HIP_ATTN_RETURN_IF_ERROR(check_args(args));
  if (device.type == DeviceType::kCpu) {
    detail::keep_openmp_loaded();
#pragma omp parallel for
    for (std::int64_t row = 0; row < args.out.sizes[0]; ++row) {
      for (std::int64_t head = 0; head < args.out.sizes[1]; ++head) cpu::merge_row(args, row, head);
    }
    return {};
  }
  HIP_ATTN_RETURN_IF_ERROR(check_device(device));
#if HIP_ATTN_HAS_CUDA
  return cuda::merge_states(device, args, stream);
#else
  return {};
#endif
}

template Status merge_states(Device, const MergeStatesArgs<float>&, Stream);
template Status merge_states(Device, const MergeStatesArgs<float16>&, Stream);
template Status merge_states(Device, const MergeStatesArgs<bfloat16>&, Stream);

}  // namespace hip_attn
