/// Selections made without a search, to compare the search with.
#pragma once

#include <cstdint>

#include "attention.hpp"
#include "hip_attn/attention.hpp"
#include "hip_attn/selection.hpp"

namespace llama {

/// Fills `selection` for every query block of the batch with what kWindow or kRandom attends to
/// where the plan's configuration would select its last stage's `keep` tokens.
///   kWindow: no block, and a window that begins that many tokens earlier.
///   kRandom: that many tokens in distinct blocks of the candidates, drawn anew for every query
///   block and KV head, from `seed`, the layer and the position.
/// Query blocks before the plan's dense_until attend to every key, as they do in a search.
void fill_baseline_selection(AttentionMode mode, std::uint64_t seed, std::int64_t layer,
                             const Batch& batch, const hip_attn::AttentionPlan& plan,
                             const hip_attn::BlockSelection& selection);

}  // namespace llama
