#include "selection_buffers.hpp"

#include <algorithm>

namespace llama {
namespace {

std::int64_t num_units(const hip_attn::AttentionPlan& plan) {
  return plan.selection_rows * plan.shape.num_kv_heads;
}

hip_attn::BlockSelection carve(std::int32_t* memory, const hip_attn::AttentionPlan& plan) {
  const std::int64_t rows = plan.selection_rows;
  const std::int64_t heads = plan.shape.num_kv_heads;
  std::int32_t* counts = memory + num_units(plan) * plan.max_selected_blocks;
  std::int32_t* window_starts = counts + num_units(plan);
  return {{memory, {rows, heads, plan.max_selected_blocks}},
          {counts, {rows, heads}},
          {window_starts, {rows, heads}}};
}

}  // namespace

SelectionBuffers::SelectionBuffers(const std::vector<const hip_attn::AttentionPlan*>& plans,
                                   Backend& backend) {
  std::int64_t size = 0;
  for (const hip_attn::AttentionPlan* plan : plans) {
    size = std::max(size, num_units(*plan) * (plan->max_selected_blocks + 2));
  }
  device_ = Buffer<std::int32_t>(backend, size);
  host_.resize(size);
}

hip_attn::BlockSelection SelectionBuffers::on_device(const hip_attn::AttentionPlan& plan) const {
  return carve(device_.data(), plan);
}

hip_attn::BlockSelection SelectionBuffers::on_host(const hip_attn::AttentionPlan& plan) {
  return carve(host_.data(), plan);
}

void SelectionBuffers::upload() { device_.upload(host_); }

void SelectionBuffers::download() { host_ = device_.download(); }

}  // namespace llama
