/// The viewer's file: one HTML page with all that it shows. python/hip_attn/viewer.html is the
/// page, and says what it reads; hip_attn.viewer writes the same from Python.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "view_capture.hpp"

namespace llama {

/// A place to go to: a query, and a key that it may look for.
struct ViewMark {
  std::string label;
  std::int64_t query;
  std::int64_t key;
};

/// What the page says of the run, and of which heads it has queries and keys.
struct ViewDescription {
  std::string title;
  std::string attention;
  std::vector<std::string> tokens;  ///< the bytes of each; some may be a part of a character
  std::vector<ViewMark> marks;
  std::vector<std::int64_t> heads;  ///< query heads, of every layer
};

struct ViewFileSummary {
  std::int64_t bytes = 0;
  /// Mean share of the mass covered, by layer and query head, of all heads of these layers.
  std::map<std::int64_t, std::vector<double>> covered;
};

/// The bytes of the file's arrays, but for its selections and texts.
std::int64_t view_file_bytes(std::int64_t tokens, std::int64_t layers, std::int64_t heads,
                             std::int64_t kv_heads, std::int64_t head_dim);

/// Computes the mass of every head of the layers, and writes the page. `on_head` is called after
/// each. Errors: kInvalidArgument when the file cannot be written.
ViewFileSummary write_view(const std::filesystem::path& path, const ViewDescription& view,
                           const LlamaConfig& model,
                           const std::map<std::int64_t, CapturedLayer>& layers,
                           const std::function<void()>& on_head);

/// The page without data, as it is built into the program.
std::string view_template();

}  // namespace llama
