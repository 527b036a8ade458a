/// Negative log-likelihoods of a text under a model.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "engine.hpp"

namespace llama {

/// Feeds the tokens to the sequence and returns -log p(tokens[i + 1] | tokens[0..i]) for every i
/// but the last. on_tokens is called with the number of tokens of each piece that is done.
std::vector<double> text_nll(Engine& engine, Sequence& sequence, std::span<const TokenId> tokens,
                             const std::function<void(std::int64_t)>& on_tokens);

double mean(std::span<const double> values);

}  // namespace llama
