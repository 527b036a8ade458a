/// How the device memory of a KvStore is divided: plain data, made of a plan alone.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hip_attn/carver.hpp"
#include "hip_attn/core/search_plan.hpp"

namespace hip_attn {

/// A block is what the store moves: the keys and the values of 8 tokens of one KV head, which lie
/// one behind the other, in host memory and on the device.
inline constexpr int kKvBlockShift = 3;
inline constexpr std::int64_t kKvBlockTokens = std::int64_t{1} << kKvBlockShift;

/// What is known of the hot blocks of one request and KV head, a unit.
struct KvStoreUnit {
  std::int32_t epoch;         ///< of the last time that candidates were admitted
  std::int32_t window_start;  ///< W0 of those candidates; 0: there were none
  std::int32_t hand;          ///< the slot from which on few blocks look for theirs
};

/// A slot's block, on its way back to host memory when another takes the slot.
struct KvStoreOwner {
  std::int32_t column;  ///< of the table, -1: the slot is free
  std::int32_t home;    ///< page of the block in host memory, as tables have it
  std::int32_t epoch;   ///< in which it was last asked for
};

/// Numbers that KvStoreCounters reads.
enum KvStoreCount { kKvHits, kKvMisses, kKvEvictions, kKvCounts };

struct KvStoreLayout {
  std::int64_t units;     ///< rows * KV heads
  std::int64_t slots;     ///< of a unit
  std::int64_t columns;   ///< of a row: blocks of max_seq_len keys
  std::byte* blocks;      ///< [units, slots] blocks: pages of the device
  std::int32_t* table;    ///< [rows + 1, Hk, columns] pages; the last row has none
  KvStoreOwner* owners;   ///< [units, slots]
  KvStoreUnit* unit;      ///< [units]
  std::uint64_t* counts;  ///< [kKvCounts]

  [[nodiscard]] std::int64_t num_pages() const { return units * slots; }

  /// Lays out `memory`, or measures when it is null. Returns the bytes.
  std::size_t divide(std::byte* memory, std::int64_t rows, std::int64_t heads,
                     std::int64_t max_seq_len, std::int64_t num_slots, std::size_t block_bytes) {
    units = rows * heads;
    slots = num_slots;
    columns = ceil_div(max_seq_len, kKvBlockTokens);
    Carver carver(memory);
    blocks = carver.take<std::byte>(num_pages() * static_cast<std::int64_t>(block_bytes));
    table = carver.take<std::int32_t>((rows + 1) * heads * columns);
    owners = carver.take<KvStoreOwner>(num_pages());
    unit = carver.take<KvStoreUnit>(units);
    counts = carver.take<std::uint64_t>(kKvCounts);
    return carver.bytes();
  }
};

}  // namespace hip_attn
