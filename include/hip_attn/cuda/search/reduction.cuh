/// Reductions of the search: from the logits of all pooled rows to one score for each chunk.
#pragma once

#include <cstdint>

namespace hip_attn::cuda {

/// The largest logit of any row. Every reduction has these members; one is made for each search
/// from the factors of a logit (PrefillParams::scale_log2), which a maximum does not need.
///
/// A reduction with kNeedsRowState sees the logits of all chunks of a stage twice. First
/// observe(state, logit) is called for every row, which has one float of shared memory, and for
/// every chunk; threads call it at the same time, and the states of several thread blocks are put
/// together by merge_states(a, b). Then score(logit, state) gives what the row adds to the chunk.
/// What the rows of a chunk add is put together by merge(), in an order that is fixed for a kernel
/// and a number of thread blocks. A state is kNoState before the first logit.
struct Maximum {
  static constexpr bool kNeedsRowState = false;
  /// The score of a chunk that no row has a logit of.
  static constexpr float kNothing = -__builtin_inff();

  __device__ Maximum(float /*scale_log2*/, float /*softcap_log2*/) {}

  __device__ static float score(float logit) { return logit; }
  /// fmaxf passes NaN over.
  __device__ static float merge(float a, float b) { return fmaxf(a, b); }
};

/// What a row adds to the score of a chunk. `states` are those of all rows; rows that pad a tile
/// come behind the last of num_rows and repeat others, which changes no maximum.
template <typename Reduction>
__device__ float row_score(const Reduction& reduction, float logit, int row, int num_rows,
                           const float* states) {
  if constexpr (Reduction::kNeedsRowState) {
    return row < num_rows ? reduction.score(logit, states[row]) : Reduction::kNothing;
  } else {
    return reduction.score(logit);
  }
}

}  // namespace hip_attn::cuda
