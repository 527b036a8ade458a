#include <fmt/format.h>

#include <algorithm>
#include <concepts>
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
using detail::check_tensor;
using detail::extent_of;

template <Element T>
Status check_landmark_args(const AppendKvArgs<T>& args, const AppendLandmarks<T>& upkeep) {
  const std::int64_t batch = upkeep.seq_lens.sizes[0];
  HIP_ATTN_RETURN_IF_ERROR(check_array("landmarks.seq_lens", upkeep.seq_lens));
  HIP_ATTN_RETURN_IF_ERROR(check_array("landmarks.cu_seqlens", upkeep.cu_seqlens));
  HIP_ATTN_RETURN_IF_ERROR(check_size("landmarks.cu_seqlens.sizes[0]", upkeep.cu_seqlens.sizes[0],
                                      "size of landmarks.seq_lens + 1", batch + 1));
  if (args.pages.page_size() < 1) {
    return {StatusCode::kInvalidShape, "pages.k.sizes[1] (page size) is 0; it must be at least 1"};
  }
  if (upkeep.block_table) {
    HIP_ATTN_RETURN_IF_ERROR(check_array("landmarks.block_table", *upkeep.block_table));
    HIP_ATTN_RETURN_IF_ERROR(check_size("landmarks.block_table.sizes[0]",
                                        upkeep.block_table->sizes[0], "size of landmarks.seq_lens",
                                        batch));
  }
  HIP_ATTN_RETURN_IF_ERROR(detail::check_landmarks(upkeep.landmarks, args.pages.num_kv_heads(),
                                                   args.pages.head_dim(), batch));
  HIP_ATTN_RETURN_IF_ERROR(detail::check_landmark_overlaps(
      upkeep.landmarks,
      {extent_of("pages.k", args.pages.k), extent_of("pages.v", args.pages.v),
       extent_of("k", args.k), extent_of("v", args.v), extent_of("slot_mapping", args.slot_mapping),
       extent_of("landmarks.seq_lens", upkeep.seq_lens),
       extent_of("landmarks.cu_seqlens", upkeep.cu_seqlens)}));
  if (!upkeep.block_table) return {};
  return detail::check_landmark_overlaps(upkeep.landmarks,
                                         {extent_of("landmarks.block_table", *upkeep.block_table)});
}

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
  return args.landmarks ? check_landmark_args(args, *args.landmarks) : Status{};
}

template <Element T>
Status check_store_args(Device device, const AppendKvArgs<T>& args, const AppendStore& of) {
  HIP_ATTN_RETURN_IF_ERROR(check_array("store.cu_seqlens", of.cu_seqlens));
  HIP_ATTN_RETURN_IF_ERROR(check_size("store.cu_seqlens.sizes[0]", of.cu_seqlens.sizes[0],
                                      "size of store.seq_lens + 1", of.seq_lens.sizes[0] + 1));
  return detail::check_hot_set<T>("store.", device, of, args.pages);
}

// The positions that request b gains: none where its length says that it is absent.
template <Element T>
detail::PositionRange new_positions(const AppendLandmarks<T>& upkeep, std::int64_t b) {
  const std::int64_t seq_len = upkeep.seq_lens(b);
  const std::int64_t rows = std::int64_t{upkeep.cu_seqlens(b + 1)} - upkeep.cu_seqlens(b);
  if (seq_len == 0 || rows == 0) return {};
  return {seq_len - rows, seq_len};
}

template <Element T>
Status check_lengths(const AppendLandmarks<T>& upkeep, const detail::UpkeepKeys<T>& keys,
                     std::int64_t num_tokens) {
  const std::int64_t batch = upkeep.seq_lens.sizes[0];
  if (upkeep.cu_seqlens(0) != 0 || upkeep.cu_seqlens(batch) != num_tokens) {
    return {StatusCode::kInvalidLength,
            fmt::format("landmarks.cu_seqlens begins with {} and ends with {}; it must begin with "
                        "0 and end with the rows of k ({})",
                        upkeep.cu_seqlens(0), upkeep.cu_seqlens(batch), num_tokens)};
  }
  for (std::int64_t b = 0; b < batch; ++b) {
    const std::int64_t seq_len = upkeep.seq_lens(b);
    const std::int64_t begin = upkeep.cu_seqlens(b);
    const std::int64_t end = upkeep.cu_seqlens(b + 1);
    if (end < begin || end > num_tokens) {
      return {StatusCode::kInvalidLength,
              fmt::format("landmarks.cu_seqlens[{}] is {}; it must be from landmarks.cu_seqlens[{}]"
                          " ({}) to the rows of k ({})",
                          b + 1, end, b, begin, num_tokens)};
    }
    if (seq_len < 0 || (seq_len > 0 && seq_len < end - begin)) {
      return {StatusCode::kInvalidLength,
              fmt::format("landmarks.seq_lens[{}] is {}; it must be 0, or at least the rows of "
                          "request {} ({})",
                          b, seq_len, b, end - begin)};
    }
    HIP_ATTN_RETURN_IF_ERROR(
        detail::check_upkeep_of(keys, upkeep.landmarks, b, new_positions(upkeep, b)));
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
  const auto upkeep_keys = [&](const AppendLandmarks<T>& upkeep) {
    return detail::UpkeepKeys<T>{args.pages.k, upkeep.block_table, "landmarks.block_table",
                                 "landmarks.seq_lens"};
  };
  if (args.landmarks) {
    HIP_ATTN_RETURN_IF_ERROR(
        check_lengths(*args.landmarks, upkeep_keys(*args.landmarks), num_tokens));
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
  if (args.landmarks) {
    const AppendLandmarks<T>& upkeep = *args.landmarks;
    detail::make_landmarks(upkeep_keys(upkeep), upkeep.landmarks, upkeep.seq_lens.sizes[0],
                           [&](std::int64_t b) { return new_positions(upkeep, b); });
  }
  return {};
}

}  // namespace

template <Element T>
Status append_kv(Device device, const AppendKvArgs<T>& args, [[maybe_unused]] Stream stream) {
  HIP_ATTN_RETURN_IF_ERROR(check_args(args));
  if (args.store) HIP_ATTN_RETURN_IF_ERROR(check_store_args(device, args, *args.store));
  if (device.type == DeviceType::kCpu) return append_on_cpu(args);
  HIP_ATTN_RETURN_IF_ERROR(check_device(device));
#if HIP_ATTN_HAS_CUDA
  return cuda::append_kv(device, args, stream);
#else
  return {};
#endif
}

template <Element T>
Status admit_kv_store(const AdmitKvStoreArgs<T>& args, [[maybe_unused]] Stream stream) {
  HIP_ATTN_RETURN_IF_ERROR(detail::check_element_type(kElementType<T>));
  HIP_ATTN_RETURN_IF_ERROR(check_tensor("pages.k", args.pages.k));
  HIP_ATTN_RETURN_IF_ERROR(check_tensor("pages.v", args.pages.v));
  const AppendStore of{args.store, args.block_table, args.seq_lens, {}, args.cache};
  const Device device = args.store.plan ? args.store.plan->shape.device : kCpu;
  HIP_ATTN_RETURN_IF_ERROR(detail::check_hot_set<T>("", device, of, args.pages));
  if (device.type == DeviceType::kCpu) return {};
  HIP_ATTN_RETURN_IF_ERROR(check_device(device));
#if HIP_ATTN_HAS_CUDA
  if constexpr (!std::same_as<T, float>) {
    return cuda::admit_to_store<T>(device, of, args.pages, stream);
  }
#endif
  return {};
}

#define HIP_ATTN_INSTANTIATE(T)                                      \
  template Status append_kv(Device, const AppendKvArgs<T>&, Stream); \
  template Status admit_kv_store(const AdmitKvStoreArgs<T>&, Stream);
HIP_ATTN_INSTANTIATE(float)
HIP_ATTN_INSTANTIATE(float16)
HIP_ATTN_INSTANTIATE(bfloat16)
#undef HIP_ATTN_INSTANTIATE

}  // namespace hip_attn
