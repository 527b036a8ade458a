/// The pooled query rows of a unit, as scorers see them.
#pragma once

#include <cstdint>

namespace hip_attn::cuda {

struct SearchRows {
  std::uint32_t* queries;  ///< in the memory of the search, as the scorer's Layout says
  int count;
  int padded;  ///< to whole tiles
};

}  // namespace hip_attn::cuda
