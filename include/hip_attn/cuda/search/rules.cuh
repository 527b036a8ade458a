/// Rules of the search: which keys of a chunk are read, and so whose logits are the chunk's.
#pragma once

#include <cstdint>
#include <type_traits>

namespace hip_attn::cuda {

/// The keys [l, r) of a chunk, or of the half of it that a descent has come to.
struct ChunkRange {
  std::int32_t l;
  std::int32_t r;

  __device__ std::int32_t size() const { return r - l; }
  __device__ std::int32_t middle() const { return l + (r - l) / 2; }
  __device__ std::int32_t left() const { return l + (middle() - l) / 2; }
  __device__ std::int32_t right() const { return middle() + (r - middle()) / 2; }
  __device__ ChunkRange half(bool upper) const {
    return {upper ? middle() : l, upper ? r : middle()};
  }
};

/// The binary descent (docs/guide/algorithm.md, "Scoring a chunk"): on every level the keys left()
/// and right() are read and the half with the larger maximum is entered; a row's logit of the chunk
/// is the largest that it saw. The scans of prefill and decode walk it, each in its own order.
struct DescentRule {
  static constexpr bool kDescends = true;
};

/// One key in the middle. Rules that read `kKeys` keys of every chunk, each at a place that follows
/// from its range alone, look like this one; a row's logit is the largest of them.
struct CentreRule {
  static constexpr bool kDescends = false;
  static constexpr int kKeys = 1;
  /// The position of key i < kKeys, in [chunk.l, chunk.r). Of an empty range, which stands where
  /// there is no chunk, it is not used.
  __device__ static std::int32_t position(const ChunkRange& chunk, int /*i*/) {
    return chunk.middle();
  }
};

/// The chunk's landmark, and every key of the chunk. Their scans know them by name.
struct LandmarkRule {
  static constexpr bool kDescends = false;
};
struct EveryKeyRule {
  static constexpr bool kDescends = false;
};

/// A rule that reads kKeys keys of every chunk.
template <typename Rule>
inline constexpr bool kReadsFixedKeys = requires {
  Rule::kKeys;
};

/// The rules that a kernel knows; ScanRule's values are their numbers.
template <typename... Rules>
struct RuleList {
  static constexpr int kCount = sizeof...(Rules);
  /// Behind the library's own, the first of More is ScanRule::kCustom.
  template <typename... More>
  using With = RuleList<Rules..., More...>;

  template <typename Rule>
  __host__ __device__ static constexpr int index_of() {
    int index = 0;
    int found = -1;
    ((found = std::is_same_v<Rule, Rules> ? index : found, ++index), ...);
    return found;
  }

  /// visit.operator()<Rule>() for the rule with this number.
  template <typename Visit>
  __device__ static auto visit(int number, Visit&& visit) {
    return visit_from<0, Rules...>(number, visit);
  }

 private:
  template <int kNumber, typename First, typename... Others, typename Visit>
  __device__ static auto visit_from(int number, Visit&& visit) {
    if constexpr (sizeof...(Others) == 0) {
      return visit.template operator()<First>();
    } else {
      if (number == kNumber) return visit.template operator()<First>();
      return visit_from<kNumber + 1, Others...>(number, visit);
    }
  }
};

/// The number under which the scan of chunks of this size is done: a chunk of one key has one
/// score, whatever the rule.
template <typename Rules>
__device__ int rule_for(int number, std::int32_t chunk_size) {
  constexpr int kDescent = Rules::template index_of<DescentRule>();
  constexpr int kCentre = Rules::template index_of<CentreRule>();
  static_assert(kDescent < 0 || kCentre >= 0, "a list with DescentRule has CentreRule too");
  return number == kDescent && chunk_size == 1 ? kCentre : number;
}

}  // namespace hip_attn::cuda
