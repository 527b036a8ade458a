#include <fmt/format.h>

#include <cstdint>

#include "hip_attn/build_info.hpp"
#include "hip_attn/kv.hpp"
#include "hip_attn_instantiations.hpp"
#include "landmark_upkeep.hpp"
#include "validate.hpp"

#if HIP_ATTN_HAS_CUDA
#include "cuda_backend.hpp"
#endif

namespace hip_attn {
namespace {

using detail::check_array;
using detail::check_size;
using detail::extent_of;

template <Element T>
Status check_args(const UpdateLandmarksArgs<T>& args) {
  HIP_ATTN_RETURN_IF_ERROR(detail::check_element_type(kElementType<T>));
  const KvPages<const T>& pages = args.kv.pages;
  const std::int64_t batch = args.to.sizes[0];
  HIP_ATTN_RETURN_IF_ERROR(check_array("from", args.from));
  HIP_ATTN_RETURN_IF_ERROR(check_array("to", args.to));
  HIP_ATTN_RETURN_IF_ERROR(check_size("from.sizes[0]", args.from.sizes[0], "size of to", batch));
  HIP_ATTN_RETURN_IF_ERROR(detail::check_paged_kv(args.kv, batch, "size of to"));
  HIP_ATTN_RETURN_IF_ERROR(detail::check_head_dim(pages.head_dim()));
  HIP_ATTN_RETURN_IF_ERROR(
      detail::check_landmarks(args.landmarks, pages.num_kv_heads(), pages.head_dim(), batch));
  if (args.max_tokens < 0) {
    return {StatusCode::kInvalidScalar,
            fmt::format("max_tokens is {}; it must not be negative", args.max_tokens)};
  }
  HIP_ATTN_RETURN_IF_ERROR(detail::check_landmark_overlaps(
      args.landmarks, {extent_of("kv.pages.k", pages.k), extent_of("kv.pages.v", pages.v),
                       extent_of("from", args.from), extent_of("to", args.to)}));
  if (!args.kv.block_table) return {};
  return detail::check_landmark_overlaps(args.landmarks,
                                         {extent_of("kv.block_table", *args.kv.block_table)});
}

template <Element T>
Status update_on_cpu(const UpdateLandmarksArgs<T>& args) {
  const std::int64_t batch = args.to.sizes[0];
  const detail::UpkeepKeys<T> keys{args.kv.pages.k, args.kv.block_table, "kv.block_table", "to"};
  const auto range_of = [&](std::int64_t b) {
    return detail::PositionRange{args.from(b), args.to(b)};
  };
  for (std::int64_t b = 0; b < batch; ++b) {
    const detail::PositionRange range = range_of(b);
    if (range.from < 0 || range.from > range.to) {
      return {StatusCode::kInvalidLength,
              fmt::format("from[{}] is {}; it must be from 0 to to[{}] ({})", b, range.from, b,
                          range.to)};
    }
    HIP_ATTN_RETURN_IF_ERROR(detail::check_upkeep_of(keys, args.landmarks, b, range));
  }
  detail::make_landmarks(keys, args.landmarks, batch, range_of);
  return {};
}

}  // namespace

template <Element T>
Status update_landmarks(Device device, const UpdateLandmarksArgs<T>& args,
                        [[maybe_unused]] Stream stream) {
  HIP_ATTN_RETURN_IF_ERROR(check_args(args));
  if (device.type == DeviceType::kCpu) return update_on_cpu(args);
  HIP_ATTN_RETURN_IF_ERROR(check_device(device));
#if HIP_ATTN_HAS_CUDA
  return cuda::update_landmarks(device, args, stream);
#else
  return {};
#endif
}

template Status update_landmarks(Device, const UpdateLandmarksArgs<float>&, Stream);
template Status update_landmarks(Device, const UpdateLandmarksArgs<float16>&, Stream);
template Status update_landmarks(Device, const UpdateLandmarksArgs<bfloat16>&, Stream);

}  // namespace hip_attn
