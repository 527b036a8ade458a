/// What the decode kernel is told: one struct, by value, no CUDA types. Positions and counts of
/// keys fit 32 bits; strides and whatever multiplies them are 64.
#pragma once

#include <cstdint>

#include "hip_attn/core/search_plan.hpp"
#include "hip_attn/cuda/attention_params.hpp"
#include "hip_attn/cuda/tuning.hpp"
#include "hip_attn/landmarks.hpp"
#include "hip_attn/types.hpp"

namespace hip_attn::cuda {

/// The same for every head dim, because plan and launch know them without one.
inline constexpr DecodeTuning kDecodeTuning{};
inline constexpr int kDecodeThreads = kDecodeTuning.threads;
inline constexpr int kDecodeWarps = kDecodeThreads / 32;
inline constexpr int kAheadWarps = kDecodeTuning.ahead_warps;
inline constexpr int kFirstAheadThread = kDecodeThreads - 32 * kAheadWarps;
inline constexpr int kSharedChunks = kDecodeTuning.shared_chunks;
inline constexpr int kMaxTeamSize = kDecodeTuning.max_team_size;
inline constexpr int kSlotsPerWarp = kDecodeTuning.slots_per_warp;
/// Query rows of one tensor-core tile.
inline constexpr int kRowsPerTile = 8;
/// Row i of a unit, which has up to kMaxDecodeRows * group, is of query row
/// i * group_factor >> kGroupShift. That fits 31 bits and is exact for groups up to 1448, more than
/// shared memory holds: the factor is 2^kGroupShift / group and less than 1 more.
inline constexpr int kGroupShift = 24;

/// Sets of kernels, because each path that is added to one costs the others registers, and time to
/// fetch instructions on the way round it.
enum class DecodeSearchKind {
  kMaxima,  ///< descents, and rules that read fixed keys, by the largest logit of any row
  kDense,   ///< landmarks and every key, by softmax sums
  kAll,     ///< every rule and reduction
};

/// How a block divides its shared memory; the slots come first.
struct DecodeLayout {
  std::int32_t max_rows;        ///< query rows of a unit at most
  std::int32_t row_tile_shift;  ///< log2 of the tiles of query rows that are attended at once
  std::int32_t slots;           ///< tiles of 16 keys and their values
  std::int32_t list_length;     ///< of a list of chunks between stages; 0: lists lie elsewhere
  // Byte offsets
  std::int32_t queries;
  std::int32_t inbox;
  std::int32_t states;
  std::int32_t lists;
  std::int32_t barrier;   ///< counts what the block is sent
  std::int32_t upstream;  ///< a barrier too: the upstream kernel has ended
  std::int32_t unread;    ///< a word that is written and not read
  std::int32_t bytes;     ///< in all
};

/// Memory of SelectionCache, int32 words as CacheLayout says.
struct CacheParams {
  std::int32_t* words = nullptr;  ///< null: absent; an entry is {state, W0, stages}
  std::uint32_t slot_words;
  std::uint32_t head_words;
  std::uint32_t num_slots;
  const std::int32_t* refresh_from;
  const std::int32_t* slots;  ///< null: slot b
};

/// What every unit reads lies together and the stages, of which few are read, last: the lines of
/// constant memory come one after another, each from L2 when a kernel begins.
template <typename Stored>
struct DecodeParams {
  AttentionTensors<Stored> tensors;
  // Shape
  std::int32_t num_kv_heads;
  std::int32_t group;
  std::int32_t group_factor;  ///< see kGroupShift
  std::int32_t max_seq_len;   ///< of the plan, and that a request's pages can hold
  LogitScale logits;
  StagePlan last_stage;  ///< search.stages[search.num_stages - 1], known without its number
  /// One query row of a request may attend to the selection as it lies in the cache.
  bool attends_to_cache;
  /// With how many keys at most that can be done at once (DecodeAttention::Path); 0 where rows of
  /// this call mostly have more, and for what that path does not take.
  std::int32_t keys_at_once;
  // Selection and counters
  SelectionParams<std::int32_t> selection_out;
  SelectionParams<const std::int32_t> selection_in;
  CacheParams cache;
  unsigned long long* counters;  ///< [num_stages + 2], null: absent
  // Workspace, of each team
  DecodeLayout layout;
  std::int32_t team_size;
  std::int32_t slice_shift;      ///< log2 of the (row, dim) pairs that a block merges
  std::int32_t max_chunks;       ///< that a stage scores, a multiple of 4
  std::int32_t list_length;      ///< of each of lists
  std::int32_t exchange_floats;  ///< what a block is sent in the combine
  float* scores;                 ///< [teams, 2, max_chunks]
  float* exchange;               ///< [teams, team_size, exchange_floats], without clusters
  std::int32_t* lists;      ///< [teams, team_size, 2, list_length]; null: they are in shared memory
  std::uint32_t* arrivals;  ///< [teams], GridTeam's counters
  SearchPlan search;        ///< its stages last
  // Of all kinds of search but DecodeSearchKind::kMaxima
  LandmarkTensor<Stored> landmarks[kMaxLandmarkLevels];  ///< [stage], of landmark stages
  float* row_logits;              ///< [teams, 2, row_logits_size], a stage's [rows, chunks]
  float* tile_masses;             ///< [teams, tile_masses_size] of MassSum, [rows, tiles]
  std::int64_t row_logits_size;   ///< of the stage with most
  std::int64_t tile_masses_size;  ///< likewise
};

}  // namespace hip_attn::cuda
