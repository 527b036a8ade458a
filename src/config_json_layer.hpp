// Layer objects of the authors' JSON: one HipConfig each.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "hip_attn/config.hpp"
#include "json_reader.hpp"

namespace hip_attn::detail {

// What a layer object is for. In decode the rows of a request are one query block.
enum class Use { kDecode, kPrefill, kBoth };

// mask_refresh_interval: decode steps between two runs of the first, the second, ... stage. Later
// stages have the last number, which is to say that they run whenever the stage before them does.
struct RefreshIntervals {
  std::vector<std::int32_t> numbers = {32, 16, 8};  // at least one
  bool is_list = false;                             // the document has a list
};

class LayerReader {
 public:
  LayerReader(JsonReader& reader, RefreshIntervals intervals)
      : reader_(reader), intervals_(std::move(intervals)) {}

  // A list of layer objects, at least one unless there is an error.
  std::vector<HipConfig> list(const JsonNode& node, Use use);
  // The configuration that the members of `node` in kLayerKeys describe; valid unless there is an
  // error.
  HipConfig layer(const JsonNode& node, Use use);
  // `config` with the intervals that belong to its stages.
  [[nodiscard]] HipConfig refreshed(HipConfig config) const;

 private:
  void check_masking_window(const JsonNode& node, std::int64_t window);
  void check_block_sizes(const JsonNode& stage, Use use, std::int32_t before, std::int32_t block_q);
  void read_stages(const JsonNode& list, Use use, HipConfig& config);

  JsonReader& reader_;
  RefreshIntervals intervals_;
};

}  // namespace hip_attn::detail
