/// Landmarks made from keys (docs/guide/algorithm.md, "Landmarks").
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

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
  [[nodiscard]] const LandmarkLevel<T>& level(int i) const noexcept {
    return landmarks_.levels[static_cast<std::size_t>(i)];
  }

  /// hi = mean + spread * (max - mean), lo likewise with min. The mean is summed in fp32 in
  /// ascending order.
  void summarise(std::int64_t number) const {
    const std::int64_t size = level(0).chunk_size;
    T* const hi = landmark_row_(0, number);
    T* const lo = hi + level(0).rows.strides[3];
    for (std::int64_t d = 0; d < level(0).head_dim(); ++d) {
      float sum = 0.f;
      float max = to_float(key_row_(number * size)[d]);
      float min = max;
      for (std::int64_t i = 0; i < size; ++i) {
        const float key = to_float(key_row_(number * size + i)[d]);
        sum += key;
        max = larger(max, key);
        min = smaller(min, key);
      }
      const float mean = sum / static_cast<float>(size);
      hi[d] = from_float<T>(mean + landmarks_.spread * (max - mean));
      lo[d] = from_float<T>(mean + landmarks_.spread * (min - mean));
    }
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

  // A NaN among keys makes their landmarks NaN, and those above.
  static float larger(float a, float b) noexcept { return takes_place(b, a) ? b : a; }
  static float smaller(float a, float b) noexcept { return takes_place(-b, -a) ? b : a; }
  static bool takes_place(float b, float a) noexcept { return b > a || b != b; }

  const Landmarks<T>& landmarks_;
  const KeyRow& key_row_;
  const LandmarkRow& landmark_row_;
};

}  // namespace hip_attn::cpu
