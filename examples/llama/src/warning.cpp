#include "warning.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <utility>

namespace llama {
namespace {

std::vector<std::string>* collected = nullptr;

}  // namespace

void warn(const std::string& message) {
  if (collected) {
    collected->push_back(message);
  } else {
    fmt::print(stderr, "llama: warning: {}\n", message);
  }
}

CollectedWarnings::CollectedWarnings() : outer_(std::exchange(collected, &messages_)) {}

CollectedWarnings::~CollectedWarnings() { collected = outer_; }

}  // namespace llama
