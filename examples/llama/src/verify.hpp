/// Compares this engine with the reference figures of the bundled model.
#pragma once

#include <filesystem>
#include <optional>
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

/// Token ids exactly, dense negative log-likelihoods per 512 tokens and the highest logits to
/// verify_tolerance, whole codes found under dense attention. kv_type: as in AttentionOptions.
std::vector<Check> verify(const Model& model, const Tokenizer& tokenizer,
                          const std::filesystem::path& data_folder,
                          std::optional<hip_attn::ElementType> kv_type = std::nullopt);

struct VerifyTolerance {
  double nll;    ///< of a mean over 512 tokens
  double logit;  ///< of any logit among the highest
};

/// The reference is float32.
VerifyTolerance verify_tolerance(hip_attn::ElementType type);

}  // namespace llama
