/// Compares this engine with the reference figures of the bundled model.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "model.hpp"
#include "tokenizer.hpp"

namespace llama {

struct Check {
  std::string name;
  bool passed;
  std::string detail;  ///< what was found
};

/// Token ids exactly, dense float32 negative log-likelihoods per 512 tokens and the highest logits
/// to kVerifyTolerance, whole codes found under dense attention.
std::vector<Check> verify(const Model& model, const Tokenizer& tokenizer,
                          const std::filesystem::path& data_folder);

/// The figures are rounded to 4 or 5 decimals, and sums are taken in another order.
inline constexpr double kVerifyTolerance = 1e-3;

}  // namespace llama
