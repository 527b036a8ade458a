#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "hip_attn/build_info.hpp"
#include "hip_attn/kv.hpp"
#include "hip_attn_instantiations.hpp"
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

template <Element T>
Status check_args(const AppendKvArgs<T>& args) {
  HIP_ATTN_RETURN_IF_ERROR(detail::check_element_type(kElementType<T>));
  HIP_ATTN_RETURN_IF_ERROR(check_tensor("k", args.k));
  HIP_ATTN_RETURN_IF_ERROR(check_tensor("v", args.v));
  HIP_ATTN_RETURN_IF_ERROR(check_array("slot_mapping", args.slot_mapping));
  HIP_ATTN_RETURN_IF_ERROR(check_tensor("pages.k", args.pages.k));
  HIP_ATTN_RETURN_IF_ERROR(check_tensor("pages.v", args.pages.v));
  HIP_ATTN_RETURN_IF_ERROR(detail::check_sizes("v.sizes", args.v.sizes, "as k", args.k.sizes));
  HIP_ATTN_RETURN_IF_ERROR(
      detail::check_sizes("pages.v.sizes", args.pages.v.sizes, "as pages.k", args.pages.k.sizes));
  HIP_ATTN_RETURN_IF_ERROR(check_size("slot_mapping.sizes[0]", args.slot_mapping.sizes[0],
                                      "rows of k", args.k.sizes[0]));
  HIP_ATTN_RETURN_IF_ERROR(
      check_size("pages.k.sizes[2]", args.pages.num_kv_heads(), "heads of k", args.k.sizes[1]));
  HIP_ATTN_RETURN_IF_ERROR(
      check_size("pages.k.sizes[3]", args.pages.head_dim(), "head dim of k", args.k.sizes[2]));
  HIP_ATTN_RETURN_IF_ERROR(detail::check_head_dim(args.k.sizes[2]));
  for (const detail::Extent& pages :
       {extent_of("pages.k", args.pages.k), extent_of("pages.v", args.pages.v)}) {
    HIP_ATTN_RETURN_IF_ERROR(detail::check_disjoint(pages, extent_of("k", args.k)));
    HIP_ATTN_RETURN_IF_ERROR(detail::check_disjoint(pages, extent_of("v", args.v)));
  }
  return {};
}

template <Element T>
Status append_on_cpu(const AppendKvArgs<T>& args) {
  const std::int64_t page_size = args.pages.page_size();
  const std::int64_t num_slots = args.pages.num_pages() * page_size;
  const std::int64_t num_tokens = args.k.sizes[0];
  for (std::int64_t t = 0; t < num_tokens; ++t) {
    if (args.slot_mapping(t) >= num_slots) {
      return {StatusCode::kInvalidSlot,
              fmt::format("slot_mapping[{}] is {}; slots are 0 to {}, negative skips the row", t,
                          args.slot_mapping(t), num_slots - 1)};
    }
  }
  for (std::int64_t t = 0; t < num_tokens; ++t) {
    const std::int64_t slot = args.slot_mapping(t);
    if (slot < 0) continue;
    const std::int64_t page = slot / page_size;
    const std::int64_t offset = slot % page_size;
    for (std::int64_t head = 0; head < args.k.sizes[1]; ++head) {
      const auto copy = [&](const TensorView<const T, 3>& from, const TensorView<T, 4>& to) {
        const T* row = &from(t, head, 0);
        std::copy(row, row + from.sizes[2], &to(page, offset, head, 0));
      };
      copy(args.k, args.pages.k);
      copy(args.v, args.pages.v);
    }
  }
  return {};
}

}  // namespace

template <Element T>
Status append_kv(Device device, const AppendKvArgs<T>& args, [[maybe_unused]] Stream stream) {
  HIP_ATTN_RETURN_IF_ERROR(check_args(args));
  if (device.type == DeviceType::kCpu) return append_on_cpu(args);
  HIP_ATTN_RETURN_IF_ERROR(check_device(device));
#if HIP_ATTN_HAS_CUDA
  return cuda::append_kv(device, args, stream);
#else
  return {};
#endif
}

template Status append_kv(Device, const AppendKvArgs<float>&, Stream);
template Status append_kv(Device, const AppendKvArgs<float16>&, Stream);
template Status append_kv(Device, const AppendKvArgs<bfloat16>&, Stream);

}  // namespace hip_attn
