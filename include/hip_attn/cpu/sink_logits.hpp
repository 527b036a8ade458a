/// A sink logit and the row that attended without it, on the CPU.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "hip_attn/sink_logits.hpp"

namespace hip_attn::cpu {

/// One row (query row, head) of add_sink_logits.
template <Element T>
void add_sink_logit(const AddSinkLogitsArgs<T>& args, std::int64_t row, std::int64_t head) {
  const float sink = args.sink_logits(head);
  const float lse = args.lse(row, head);
  T* const out = &args.out(row, head, 0);
  if (lse == -std::numeric_limits<float>::infinity()) {
    std::fill_n(out, args.out.sizes[2], from_float<T>(0.f));
    args.lse(row, head) = sink;
    return;
  }
  const float weight = 1.f / (1.f + std::exp(sink - lse));
  for (std::int64_t d = 0; d < args.out.sizes[2]; ++d) {
    out[d] = from_float<T>(weight * to_float(out[d]));
  }
  args.lse(row, head) = std::max(lse, sink) + std::log1p(std::exp(-std::abs(lse - sink)));
}

}  // namespace hip_attn::cpu
