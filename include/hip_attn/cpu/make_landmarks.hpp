/// Landmarks made from keys (docs/guide/algorithm.md, "Landmarks").
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "hip_attn/kv.hpp"
#include "hip_attn/landmarks.hpp"
#include "hip_attn/types.hpp"

namespace hip_attn::cpu {

/// Makes the landmarks of one request and KV head. key_row(position) is a key, landmark_row(level,
/// number) the first element of hi, with lo `strides[3]` behind it.
template <Element T, typename KeyRow, typename LandmarkRow>
class LandmarkMaker {
 public:
  LandmarkMaker(const Landmarks<T>& landmarks, const KeyRow& key_row,
                const LandmarkRow& landmark_row) noexcept
      : landmarks_(landmarks), key_row_(key_row), landmark_row_(landmark_row) {}

  /// Of all complete chunks that meet [from, to), finest level first.
  void make(std::int64_t from, std::int64_t to) const {
    for (int i = 0; i < landmarks_.num_levels && from < to; ++i) {
      const std::int64_t size = level(i).chunk_size;
      for (std::int64_t number = from / size; (number + 1) * size <= to; ++number) {
        if (i == 0) {
          summarise(number);
        } else {
          join(i, number);
        }
      }
    }
  }

 private:
  /// Elements of a row that are summed side by side.
  static constexpr std::int64_t kElements = 32;

  [[nodiscard]] const LandmarkLevel<T>& level(int i) const noexcept {
    return landmarks_.levels[static_cast<std::size_t>(i)];
  }

  /// hi = mean + spread * (max - mean), lo likewise with min. The mean is summed in fp32 in
  /// ascending order.
  void summarise(std::int64_t number) const {
    const std::int64_t size = level(0).chunk_size;
    T* const hi = landmark_row_(0, number);
    T* const lo = hi + level(0).rows.strides[3];
    for (std::int64_t first = 0; first < level(0).head_dim(); first += kElements) {
      const std::int64_t n = std::min(kElements, level(0).head_dim() - first);
      float sum[kElements] = {};
      float max[kElements];
      float min[kElements];
      for (std::int64_t i = 0; i < size; ++i) {
        const T* const row = key_row_(number * size + i) + first;
        for (std::int64_t d = 0; d < n; ++d) {
          const float key = to_float(row[d]);
          sum[d] += key;
          max[d] = i == 0 || takes_place(key, max[d]) ? key : max[d];
          min[d] = i == 0 || takes_place(-key, -min[d]) ? key : min[d];
        }
      }
      for (std::int64_t d = 0; d < n; ++d) {
        const float mean = sum[d] / static_cast<float>(size);
        hi[first + d] = towards(max[d], mean);
        lo[first + d] = towards(min[d], mean);
      }
    }
  }

  /// Rounded once before it is stored: a product and a sum would be one or two roundings as the
  /// compiler likes. NaN has one bit pattern, whatever the keys' and the device's.
  [[nodiscard]] T towards(float extreme, float mean) const noexcept {
    const float value = std::fma(landmarks_.spread, extreme - mean, mean);
    return from_float<T>(value == value ? value : std::numeric_limits<float>::quiet_NaN());
  }

  /// Of the landmarks of the level below: the largest hi, the smallest lo.
  void join(int i, std::int64_t number) const {
    const std::int64_t children = level(i).chunk_size / level(i - 1).chunk_size;
    T* const hi = landmark_row_(i, number);
    T* const lo = hi + level(i).rows.strides[3];
    for (std::int64_t child = 0; child < children; ++child) {
      const T* const child_hi = landmark_row_(i - 1, number * children + child);
      const T* const child_lo = child_hi + level(i - 1).rows.strides[3];
      for (std::int64_t d = 0; d < level(i).head_dim(); ++d) {
        if (child == 0 || takes_place(to_float(child_hi[d]), to_float(hi[d]))) hi[d] = child_hi[d];
        if (child == 0 || takes_place(-to_float(child_lo[d]), -to_float(lo[d]))) {
          lo[d] = child_lo[d];
        }
      }
    }
  }

  /// A NaN among keys makes their landmarks NaN, and those above.
  static bool takes_place(float b, float a) noexcept { return b > a || b != b; }

  const Landmarks<T>& landmarks_;
  const KeyRow& key_row_;
  const LandmarkRow& landmark_row_;
};

}  // namespace hip_attn::cpu
