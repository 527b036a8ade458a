// What the handles of the C interface are.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "c_api/boundary.hpp"
#include "hip_attn/attention.hpp"
#include "hip_attn/c/hip_attn.h"
#include "hip_attn/cells.hpp"
#include "hip_attn/config.hpp"
#include "hip_attn/config_json.hpp"
#include "hip_attn/offload.hpp"
#include "hip_attn/threads.hpp"

struct HipAttnConfig {
  hip_attn::HipConfig config;
  std::vector<std::int64_t> landmark_chunk_sizes;
};

struct HipAttnModelConfig {
  hip_attn::ModelConfig model;
  std::vector<std::string> notes;
};

struct HipAttnPlan {
  hip_attn::AttentionPlan plan;
};

struct HipAttnHostMemory {
  hip_attn::HostMemory memory;
};

struct HipAttnKvStorePlan {
  hip_attn::KvStorePlan plan;
};

struct HipAttnCells {
  hip_attn::CellRequests requests;
  std::array<std::int64_t, 4> sizes;
  std::array<DLTensor, 6> tensors;
};

struct HipAttnThreadTeam {
  explicit HipAttnThreadTeam(int size) : team(size) {}
  hip_attn::ThreadTeam team;
};

namespace hip_attn::c_api {

// make() fills a new handle and says whether it could; the caller gets the handle if so.
template <typename Handle, typename Make>
Status make_handle(Name name, Handle** handle, const Make& make) {
  if (handle == nullptr) return null_pointer(name, "where the handle goes");
  auto made = std::make_unique<Handle>();
  HIP_ATTN_RETURN_IF_ERROR(make(*made));
  *handle = made.release();
  return {};
}

// Writes the first `capacity` entries and returns how many there are.
template <typename List, typename Value>
std::size_t copy_list(const List& list, Value* values, std::size_t capacity) noexcept {
  if (values != nullptr) std::copy_n(list.begin(), std::min(capacity, list.size()), values);
  return list.size();
}

}  // namespace hip_attn::c_api
