// Caches and landmarks of the C interface as the library's views.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "c_api/structs.hpp"
#include "c_api/tensors.hpp"
#include "hip_attn/c/kv.h"
#include "hip_attn/kv.hpp"
#include "hip_attn/landmarks.hpp"

namespace hip_attn::c_api {

// `names` are those of the struct and its two members.
template <typename T>
Status pages_of(const char* const (&names)[3], const HipAttnKvPages* given, Device device,
                KvPages<T>& pages) {
  HipAttnKvPages known;
  HIP_ATTN_RETURN_IF_ERROR(read_struct(names[0], given, known));
  HIP_ATTN_RETURN_IF_ERROR(view_of(names[1], known.k, device, pages.k));
  return view_of(names[2], known.v, device, pages.v);
}

template <typename T>
Status paged_kv_of(const HipAttnPagedKv* given, Device device, PagedKv<T>& kv) {
  HipAttnPagedKv known;
  HIP_ATTN_RETURN_IF_ERROR(read_struct("kv", given, known));
  HIP_ATTN_RETURN_IF_ERROR(
      pages_of({"kv.pages", "kv.pages.k", "kv.pages.v"}, known.pages, device, kv.pages));
  return view_of("kv.block_table", known.block_table, device, kv.block_table);
}

template <typename T>
Status landmarks_of(const HipAttnLandmarks* given, Device device, Landmarks<T>& landmarks) {
  HipAttnLandmarks known;
  HIP_ATTN_RETURN_IF_ERROR(read_struct("landmarks", given, known));
  // A wrong number is refused by the operator, which looks at no level then.
  landmarks.num_levels =
      static_cast<int>(std::clamp<std::int64_t>(known.num_levels, -1, kMaxLandmarkLevels + 1));
  if (known.spread != nullptr) landmarks.spread = *known.spread;
  for (int i = 0; i < std::min(landmarks.num_levels, kMaxLandmarkLevels); ++i) {
    HipAttnLandmarkLevel level;
    LandmarkLevel<T>& view = landmarks.levels[static_cast<std::size_t>(i)];
    HIP_ATTN_RETURN_IF_ERROR(read_element({"landmarks.levels", i}, known.levels, i, level));
    view.chunk_size = level.chunk_size;
    HIP_ATTN_RETURN_IF_ERROR(
        view_of({"landmarks.levels", i, ".rows"}, level.rows, device, view.rows));
    HIP_ATTN_RETURN_IF_ERROR(view_of({"landmarks.levels", i, ".block_table"}, level.block_table,
                                     device, view.block_table));
  }
  return {};
}

}  // namespace hip_attn::c_api
