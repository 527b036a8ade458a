#include "view_capture.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "buffer.hpp"
#include "error.hpp"
#include "query_blocks.hpp"

namespace llama {
namespace {

using hip_attn::float16;

/// Appends the rows of x [rows, heads * head_dim] to those of each head.
void append(const std::vector<float>& x, std::int64_t head_dim,
            std::vector<std::vector<float16>>& heads) {
  const auto count = static_cast<std::int64_t>(heads.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto head = static_cast<std::int64_t>(i) / head_dim % count;
    heads[head].push_back(hip_attn::from_float<float16>(x[i]));
  }
}

void require_finite(const std::vector<std::vector<float16>>& heads, std::int64_t layer,
                    const char* what) {
  for (std::size_t head = 0; head < heads.size(); ++head) {
    for (const float16 value : heads[head]) {
      if (std::isfinite(hip_attn::to_float(value))) continue;
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("layer {}, head {} has a {} beyond the range of float16, in which "
                              "the viewer's file holds them; leave the layer out of --layers",
                              layer, head, what));
    }
  }
}

}  // namespace

ViewCapture::ViewCapture(const std::vector<std::int64_t>& layers, const LlamaConfig& model,
                         Backend& backend)
    : model_(model), backend_(backend) {
  for (const std::int64_t layer : layers) {
    layers_[layer].queries.resize(model.num_q_heads);
    layers_[layer].keys.resize(model.num_kv_heads);
  }
}

void ViewCapture::observe(Attention& attention) {
  attention.observe_inputs(
      [this](std::int64_t layer, const Batch&, const Tensor& q, const Tensor& k) {
        if (const auto found = layers_.find(layer); found != layers_.end()) {
          add_inputs(found->second, q, k);
        }
      });
  attention.observe_selections([this](std::int64_t layer, const Batch& batch,
                                      const hip_attn::HipConfig& config,
                                      const hip_attn::ConstBlockSelection& selection) {
    if (const auto found = layers_.find(layer); found != layers_.end()) {
      add_selection(found->second, batch, config, selection);
    }
  });
}

void ViewCapture::add_inputs(CapturedLayer& layer, const Tensor& q, const Tensor& k) {
  append(download(backend_, q), model_.head_dim, layer.queries);
  append(download(backend_, k), model_.head_dim, layer.keys);
}

void ViewCapture::add_selection(CapturedLayer& layer, const Batch& batch,
                                const hip_attn::HipConfig& config,
                                const hip_attn::ConstBlockSelection& selection) {
  layer.selections.resize(model_.num_kv_heads);
  for_each_query_block(batch, config, [&](std::int64_t row, std::int64_t, std::int64_t p0) {
    if (p0 % config.block_q != 0) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("a forward pass begins at position {}, inside of a query block; "
                              "expected --prefill-rows of {} or more",
                              p0, config.block_q));
    }
    for (std::int64_t head = 0; head < model_.num_kv_heads; ++head) {
      HeadSelection& of = layer.selections[head];
      of.block_q = config.block_q;
      of.block_k = config.block_k();
      of.sink = config.sink;
      const std::int32_t* blocks = &selection.blocks(row, head, 0);
      of.blocks.insert(of.blocks.end(), blocks, blocks + selection.counts(row, head));
      of.block_ends.push_back(static_cast<std::int32_t>(of.blocks.size()));
      of.window_start.push_back(selection.window_start(row, head));
    }
  });
}

const std::map<std::int64_t, CapturedLayer>& ViewCapture::layers() {
  for (auto& [number, layer] : layers_) {
    require_finite(layer.queries, number, "query");
    require_finite(layer.keys, number, "key");
    if (!layer.selections.empty()) continue;
    const auto tokens = static_cast<std::int64_t>(layer.queries.front().size()) / model_.head_dim;
    layer.selections.assign(model_.num_kv_heads, HeadSelection::dense(tokens));
  }
  return layers_;
}

}  // namespace llama
