#pragma once

#include <cstring>
#include <vector>

namespace hip_attn::test {

/// Stricter than ==: NaN equals itself, and 0 is not -0.
template <typename V>
bool same_bits(const std::vector<V>& a, const std::vector<V>& b) {
  if (a.size() != b.size()) return false;
  return a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(V)) == 0;
}

}  // namespace hip_attn::test
