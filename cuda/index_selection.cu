#include "cuda_backend.hpp"
#include "hip_attn/cuda/launch/index_selection.cuh"

namespace hip_attn::cuda {

Status make_index_selection(const AttentionPlan& plan, const IndexSelectionArgs& args,
                            Stream stream) {
  return enqueue_index_selection(plan, args, stream);
}

}  // namespace hip_attn::cuda
