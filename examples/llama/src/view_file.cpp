#include "view_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <set>
#include <string_view>

#include "base64.hpp"
#include "error.hpp"
#include "json_file.hpp"

namespace llama {
namespace {

/// Where the data goes, once in the page.
constexpr std::string_view kDataMark = "<!-- hip_attn view data -->";

template <typename T>
constexpr const char* kTypeName = nullptr;
template <>
constexpr const char* kTypeName<char> = "u8";
template <>
constexpr const char* kTypeName<hip_attn::float16> = "f16";
template <>
constexpr const char* kTypeName<float> = "f32";
template <>
constexpr const char* kTypeName<std::int32_t> = "i32";

/// Writes arrays as elements of the page, and returns the numbers by which the data names them.
class ArrayWriter {
 public:
  explicit ArrayWriter(std::ostream& out) : out_(out) {}

  template <typename T>
  std::int64_t add(const std::vector<T>& values) {
    out_ << fmt::format("<script type=\"text/plain\" id=\"array-{}\" data-type=\"{}\">", next_,
                        kTypeName<T>)
         << base64(std::as_bytes(std::span(values))) << "</script>\n";
    return next_++;
  }

 private:
  std::ostream& out_;
  std::int64_t next_ = 0;
};

Json add_text(const std::vector<std::string>& tokens, ArrayWriter& arrays) {
  std::vector<char> bytes;
  std::vector<std::int32_t> ends;
  for (const std::string& token : tokens) {
    bytes.insert(bytes.end(), token.begin(), token.end());
    ends.push_back(static_cast<std::int32_t>(bytes.size()));
  }
  return {{"bytes", arrays.add(bytes)}, {"ends", arrays.add(ends)}};
}

Json add_kv_head(std::int64_t kv_head, const CapturedLayer& layer, ArrayWriter& arrays) {
  const HeadSelection& selection = layer.selections[kv_head];
  return {{"kv_head", kv_head},
          {"keys", arrays.add(layer.keys[kv_head])},
          {"blocks", arrays.add(selection.blocks)},
          {"block_ends", arrays.add(selection.block_ends)},
          {"window_start", arrays.add(selection.window_start)}};
}

/// JSON that an HTML element may hold: ASCII, without the beginning of a tag.
std::string element_text(const Json& json) {
  std::string text;
  for (const char c : json.dump(-1, ' ', true, Json::error_handler_t::replace)) {
    if (c == '<') {
      text += "\\u003c";
    } else {
      text += c;
    }
  }
  return text;
}

}  // namespace

std::int64_t view_file_bytes(std::int64_t tokens, std::int64_t layers, std::int64_t heads,
                             std::int64_t kv_heads, std::int64_t head_dim) {
  // Queries and keys in two bytes, and of a head the cells of 8 keys of half of its square.
  const std::int64_t rows = tokens * head_dim * 2 * (heads + kv_heads);
  const std::int64_t cells = tokens * tokens / 64 / 8 * heads;
  return layers * (rows + cells) / 3 * 4;
}

ViewFileSummary write_view(const std::filesystem::path& path, const ViewDescription& view,
                           const LlamaConfig& model,
                           const std::map<std::int64_t, CapturedLayer>& layers,
                           const std::function<void()>& on_head) {
  std::ofstream file(path, std::ios::binary);
  const std::string page = view_template();
  const std::size_t mark = page.find(kDataMark);
  file << page.substr(0, mark);

  const double scale = 1.0 / std::sqrt(static_cast<double>(model.head_dim));
  const std::int64_t group = model.num_q_heads / model.num_kv_heads;
  ArrayWriter arrays(file);
  ViewFileSummary summary;
  Json data = {{"format", 1},
               {"title", view.title},
               {"attention", view.attention},
               {"tokens", view.tokens.size()},
               {"head_dim", model.head_dim},
               {"scale", scale},
               {"text", add_text(view.tokens, arrays)},
               {"marks", Json::array()},
               {"layers", Json::array()}};
  for (const ViewMark& place : view.marks) {
    data["marks"].push_back({{"label", place.label}, {"query", place.query}, {"key", place.key}});
  }
  const std::set<std::int64_t> detailed(view.heads.begin(), view.heads.end());
  for (const auto& [number, layer] : layers) {
    const HeadSelection& any = layer.selections.front();
    Json entry = {{"layer", number},           {"block_q", any.block_q},
                  {"block_k", any.block_k},    {"cell_keys", any.cell_keys()},
                  {"sink", any.sink},          {"covered", Json::array()},
                  {"kv_heads", Json::array()}, {"heads", Json::array()}};
    for (std::int64_t head = 0; head < model.num_q_heads; ++head) {
      const std::int64_t kv_head = head / group;
      const HeadMass mass = attention_mass(layer.queries[head], layer.keys[kv_head], model.head_dim,
                                           scale, layer.selections[kv_head]);
      summary.covered[number].push_back(mass.mean_covered());
      entry["covered"].push_back(mass.mean_covered());
      on_head();
      if (!detailed.contains(head)) continue;
      if (entry["kv_heads"].empty() || entry["kv_heads"].back()["kv_head"] != kv_head) {
        entry["kv_heads"].push_back(add_kv_head(kv_head, layer, arrays));
      }
      entry["heads"].push_back({{"head", head},
                                {"kv_head", kv_head},
                                {"queries", arrays.add(layer.queries[head])},
                                {"lse", arrays.add(mass.lse)},
                                {"covered", arrays.add(mass.covered)},
                                {"cells", arrays.add(mass.cells)},
                                {"attended", arrays.add(mass.attended)}});
    }
    data["layers"].push_back(std::move(entry));
  }
  file << "<script type=\"application/json\" id=\"view-data\">" << element_text(data)
       << "</script>\n"
       << page.substr(mark + kDataMark.size());
  summary.bytes = static_cast<std::int64_t>(file.tellp());
  file.close();
  if (!file) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("cannot write {}", path.string()));
  }
  return summary;
}

}  // namespace llama
