/// KV offload: the cache of a layer lives in host memory ("home"), and the GPU keeps the blocks
/// that requests read (docs/guide/offload.md). Results are those of a cache on the GPU to the last
/// bit, whatever is hot.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "hip_attn/config.hpp"
#include "hip_attn/core/kv_store_layout.hpp"
#include "hip_attn/export.hpp"
#include "hip_attn/status.hpp"
#include "hip_attn/types.hpp"

namespace hip_attn {

// ---- Home ---------------------------------------------------------------------------------------

/// Host memory that a device reads and writes in place: pinned and mapped for CUDA, plain for the
/// CPU. Owns it.
class HostMemory {
 public:
  HostMemory() noexcept = default;
  HostMemory(HostMemory&& other) noexcept { swap(other); }
  HostMemory& operator=(HostMemory&& other) noexcept {
    HostMemory(static_cast<HostMemory&&>(other)).swap(*this);
    return *this;
  }
  ~HostMemory() { release(size_); }

  /// Zeroed memory of `bytes`, or nothing. Pinned in pieces of kPieceBytes. Errors: kOutOfMemory,
  /// kUnsupported, kCudaError.
  HIP_ATTN_API static Status allocate(Device device, std::size_t bytes, HostMemory& memory);

  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

  /// Gives back about `bytes` from the end, in whole pieces, at least one: to give terabytes back
  /// takes seconds, and whoever cannot wait so long calls again later. Returns what is left.
  HIP_ATTN_API std::size_t release(std::size_t bytes) noexcept;

  static constexpr std::size_t kPieceBytes = std::size_t{1} << 28;

 private:
  HIP_ATTN_API void swap(HostMemory& other) noexcept;

  Device device_ = kCpu;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t reserved_ = 0;  ///< bytes of the mapping, which stays until all is released
};

// ---- Store --------------------------------------------------------------------------------------

/// The maxima that a store is made for.
struct KvStoreShape {
  Device device = kCpu;
  ElementType type = ElementType::kBFloat16;  ///< of keys and values; on CUDA one of 16 bits
  std::int64_t max_requests = 1;              ///< rows of the store's table
  std::int64_t max_seq_len = 0;  ///< that of the plans whose selection caches the store looks at
  std::int64_t num_kv_heads = 1;
  std::int64_t head_dim = 128;
};

/// Made by plan_kv_store. A value.
struct KvStorePlan {
  KvStoreShape shape;
  SearchPlan search{};           ///< of the config that the store was made for
  std::int64_t slots = 0;        ///< blocks that one request and KV head can have on the device
  std::size_t memory_bytes = 0;  ///< on the device, of all pieces; 0 on the CPU
  std::size_t least_budget = 0;  ///< that holds what one step of every request reads
};

/// The pieces of a store's memory.
inline KvStoreLayout kv_store_layout(const KvStorePlan& plan, std::byte* memory,
                                     std::size_t* bytes = nullptr) {
  const std::size_t element = plan.shape.type == ElementType::kFloat32 ? 4 : 2;
  KvStoreLayout layout{};
  const std::size_t all = layout.divide(
      memory, plan.shape.max_requests, plan.shape.num_kv_heads, plan.shape.max_seq_len, plan.slots,
      static_cast<std::size_t>(2 * kKvBlockTokens * plan.shape.head_dim) * element);
  if (bytes) *bytes = all;
  return layout;
}

/// Divides `budget_bytes` of device memory among requests and KV heads, each an equal share, so
/// that none evicts what another reads. Of the budget, table and records of the slots take 4 bytes
/// for 8 tokens that a request can have and 12 bytes a slot. Landmarks are not counted. On the CPU,
/// where a cache has one place, nothing is needed. Errors: kInvalidConfig, kInvalidShape,
/// kUnsupported, kBudgetTooSmall (the message says how much is needed).
HIP_ATTN_API Status plan_kv_store(const HipConfig& config, const KvStoreShape& shape,
                                  std::size_t budget_bytes, KvStorePlan& plan);

/// The store of one layer as a call takes it.
struct KvStore {
  const KvStorePlan* plan = nullptr;
  void* memory = nullptr;  ///< plan->memory_bytes on the device, 16-byte aligned; CPU: not used
  /// int32 [B]: the table's row of request b, 0 to max_requests - 1, each used once; of a request
  /// without keys, anything. Absent: row b.
  std::optional<TensorView<const std::int32_t, 1>> rows = std::nullopt;
};

/// Empties a store, whose memory holds anything: no request has a page. Waits for nothing.
HIP_ATTN_API Status clear_kv_store(const KvStore& store, Stream stream = nullptr);

struct BindKvStoreArgs {
  KvStore store;
  std::int64_t num_home_blocks = 0;  ///< of the cache in host memory
  /// [B, columns] the home block of each kKvBlockTokens tokens.
  TensorView<const std::int32_t, 2> block_table;
  TensorView<const std::int32_t, 1> seq_lens;  ///< [B] keys that each request has already
};

/// Gives the table's row of every request to that request: its keys lie in the blocks of its block
/// table, none of them hot, and whatever was hot for the row's former request is forgotten. To be
/// called when a request begins, also one that has no keys yet, and when blocks of keys that exist
/// are exchanged; not when append_kv adds to them. Requests may share home blocks (a prefix); each
/// has hot copies of its own. Cost: table and slots of the rows written once.
HIP_ATTN_API Status bind_kv_store(const BindKvStoreArgs& args, Stream stream = nullptr);

/// What a store has done since it was emptied, in blocks of one KV head.
struct KvStoreCounters {
  std::int64_t hits = 0;       ///< asked for when a search began anew or ahead, and hot
  std::int64_t misses = 0;     ///< copied to the device, 16 D elements each
  std::int64_t evictions = 0;  ///< that made room
};
/// Waits for the stream. All are 0 on the CPU.
HIP_ATTN_API Status read_kv_store_counters(const KvStore& store, KvStoreCounters& counters,
                                           Stream stream = nullptr);

}  // namespace hip_attn
