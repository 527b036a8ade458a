#include "selection_trace.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "error.hpp"
#include "hip_attn/core/cache_layout.hpp"

namespace llama {
namespace {

void add_number(std::string& record, std::int64_t number) {
  auto rest = static_cast<std::uint64_t>(number);
  for (; rest >= 0x80; rest >>= 7) record.push_back(static_cast<char>(0x80 | (rest & 0x7f)));
  record.push_back(static_cast<char>(rest));
}

void add_list(std::string& record, std::span<const std::int32_t> ascending) {
  add_number(record, static_cast<std::int64_t>(ascending.size()));
  std::int32_t before = 0;
  for (const std::int32_t number : ascending) {
    add_number(record, number - before);
    before = number;
  }
}

/// The stage whose survivors the last stage cuts; of a single stage, its own.
int stage_before_last(const hip_attn::SearchPlan& plan) { return std::max(plan.num_stages - 2, 0); }

TracedSearch candidates_of(const CachedSearch& cached, std::int64_t kv_head) {
  const hip_attn::SearchPlan& plan = cached.plan;
  const int stage = stage_before_last(plan);
  const std::int32_t* entry = cached.words.data() + kv_head * plan.cache_entry_words;
  const std::int32_t* survivors = entry + plan.stages[stage].cache_word;
  TracedSearch search;
  search.window_start = entry[hip_attn::CacheLayout::kWindowStart];
  search.chunk_shift = plan.chunk_shift(stage, search.window_start - plan.sink);
  search.chunks.assign(survivors + 1, survivors + 1 + survivors[0]);
  return search;
}

}  // namespace

SelectionTrace::SelectionTrace(const std::filesystem::path& path, Json header,
                               const LlamaConfig& model, const Attention& attention)
    : path_(path), attention_(attention), file_(path, std::ios::binary) {
  header["format"] = "hip_attn selection trace 1";
  header["kv_heads"] = model.num_kv_heads;
  header["head_dim"] = model.head_dim;
  header["layers"] = Json::array();
  for (std::int64_t layer = 0; layer < model.num_layers; ++layer) {
    const CachedSearch cached = attention.cached_search(layer, /*slot=*/0);
    if (cached.plan.num_stages > 0) header["layers"].push_back(layer);
    if (cached.plan.num_stages == 0) continue;
    header["sink"] = cached.plan.sink;
    header["window"] = cached.plan.window;
    header["block_tokens"] = 1 << cached.plan.block_shift;
  }
  if (header["layers"].empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                "nothing to trace: no layer searches in decode with this attention");
  }
  file_ << header.dump() << '\n';
}

SelectionObserver SelectionTrace::observer() {
  return [this](std::int64_t layer, const Batch& batch, const hip_attn::HipConfig&,
                const hip_attn::ConstBlockSelection& selection) {
    if (batch.phase != Phase::kDecode) return;
    const CachedSearch cached = attention_.cached_search(layer, batch.slots.front());
    for (std::int64_t head = 0; head < selection.counts.sizes[1]; ++head) {
      TracedSearch search = candidates_of(cached, head);
      const std::int32_t* blocks = &selection.blocks(0, head, 0);
      search.blocks.assign(blocks, blocks + selection.counts(0, head));
      write(layer, head, search);
      before_[{layer, head}] = std::move(search);
    }
  };
}

void SelectionTrace::write(std::int64_t layer, std::int64_t kv_head, const TracedSearch& search) {
  const auto known = before_.find({layer, kv_head});
  const bool first = known == before_.end();
  const bool searched = first || known->second.window_start != search.window_start ||
                        known->second.chunks != search.chunks;
  const bool selected = first || known->second.blocks != search.blocks;
  std::string record;
  add_number(record, (searched ? 1 : 0) + (selected ? 2 : 0));
  if (searched) {
    add_number(record, search.window_start);
    add_number(record, search.chunk_shift);
    add_list(record, search.chunks);
  }
  if (selected) add_list(record, search.blocks);
  file_ << record;
}

std::int64_t SelectionTrace::close() {
  const auto bytes = static_cast<std::int64_t>(file_.tellp());
  file_.close();
  if (!file_) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("cannot write {}", path_.string()));
  }
  return bytes;
}

}  // namespace llama
