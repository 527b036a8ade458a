/// Memory for what one layer's call selects, in a backend and on the host.
#pragma once

#include <cstdint>
#include <vector>

#include "buffer.hpp"
#include "hip_attn/attention.hpp"
#include "hip_attn/selection.hpp"

namespace llama {

class SelectionBuffers {
 public:
  SelectionBuffers() = default;
  /// Room for the largest call of any of the plans.
  SelectionBuffers(const std::vector<const hip_attn::AttentionPlan*>& plans, Backend& backend);

  [[nodiscard]] hip_attn::BlockSelection on_device(const hip_attn::AttentionPlan& plan) const;
  [[nodiscard]] hip_attn::BlockSelection on_host(const hip_attn::AttentionPlan& plan);
  void upload();    ///< host to device
  void download();  ///< and back

 private:
  // Blocks, counts and window starts, in this order.
  Buffer<std::int32_t> device_;
  std::vector<std::int32_t> host_;
};

}  // namespace llama
