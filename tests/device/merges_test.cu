// Softmax states put together, by a warp of decode and by merge_states, against float64.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "device/device_test.cuh"
#include "hip_attn/cuda/attend/merge_states.cuh"
#include "hip_attn/cuda/decode/merged_state.cuh"
#include "support/device_buffer.hpp"
#include "support/same_bits.hpp"
#include "support/values.hpp"

namespace hip_attn {
namespace {

using namespace test;

// ---- MergedState --------------------------------------------------------------------------------

/// A partial state of one row and four dims.
struct Part {
  float2 state;  ///< {max, sum}
  float4 value;
};

struct Merged {  // without padding: bits are compared
  float max;
  float sum;
  float value[4];
};

/// One warp: lanes of equal number modulo 32 >> lane_shift share a row's parts out. Part i of row r
/// is parts[r * num_parts + i]; `reads` counts how often each was read.
__global__ void merged_state_kernel(const Part* parts, int num_parts, int lane_shift, int* reads,
                                    Merged* merged) {
  const int lane = static_cast<int>(threadIdx.x);
  const int row = lane % (32 >> lane_shift);
  const cuda::MergedState state(num_parts, lane_shift,
                                [&](int i, bool wanted, float2& of_part, float4& value) {
                                  if (!wanted) return;
                                  atomicAdd(reads + row * num_parts + i, 1);
                                  of_part = parts[row * num_parts + i].state;
                                  value = parts[row * num_parts + i].value;
                                });
  merged[lane] = {
      state.max, state.sum, {state.value.x, state.value.y, state.value.z, state.value.w}};
}

std::vector<Merged> run_merged_state(const std::vector<Part>& parts, int num_parts,
                                     int lane_shift) {
  const Device device = cuda_device();
  const DeviceBuffer<Part> in(device, parts);
  const DeviceBuffer<int> reads(device, static_cast<std::int64_t>(parts.size()), 0);
  const DeviceBuffer<Merged> merged(device, 32, Merged{kNaN, kNaN, {kNaN, kNaN, kNaN, kNaN}});
  run_kernel(merged_state_kernel, 1, 32, 0, in.data(), num_parts, lane_shift, reads.data(),
             merged.data());
  const std::vector<int> times = reads.read();
  CHECK(std::all_of(times.begin(), times.end(), [](int n) { return n == 1; }));
  return merged.read();
}

/// Which parts of a row are none.
enum class None { kNever, kOften, kAllButLast, kAlways };

Part make_part(int row, int i, int num_parts, None none) {
  const auto random = [&](int k) {
    return gaussian(mix(9, static_cast<std::uint64_t>((row * 64 + i) * 8 + k)));
  };
  // What a part that is none has for values must not matter, as long as it is finite.
  const float4 value = make_float4(random(0), random(1), random(2), random(3));
  const bool is_none =
      none == None::kAlways || (none == None::kAllButLast && i < num_parts - 1) ||
      (none == None::kOften && mix(10, static_cast<std::uint64_t>(row * 64 + i)) % 3 != 0);
  if (is_none) return {make_float2(-kInfinity, 0.f), value};
  // Maxima some tens apart, so that parts of every weight are there.
  return {make_float2(20.f * random(4), 0.5f + std::abs(random(5))), value};
}

void check_merged(const std::vector<Part>& parts, int num_parts, int row, const Merged& merged) {
  CAPTURE(row);
  double max = -std::numeric_limits<double>::infinity();
  for (int i = 0; i < num_parts; ++i) {
    max = std::max(max, double{parts[row * num_parts + i].state.x});
  }
  CHECK(double{merged.max} == max);
  double sum = 0;
  double value[4] = {};
  double magnitude[4] = {};
  for (int i = 0; i < num_parts && std::isfinite(max); ++i) {
    const Part& part = parts[row * num_parts + i];
    const double weight = std::exp2(part.state.x - max);
    sum += weight * part.state.y;
    const float of_part[] = {part.value.x, part.value.y, part.value.z, part.value.w};
    for (int d = 0; d < 4; ++d) {
      value[d] += weight * of_part[d];
      magnitude[d] += weight * std::abs(of_part[d]);
    }
  }
  // exp2_fast errs by 2^-22, and a part of this many is weighted and summed in up to 16 steps.
  constexpr double kError = 2e-5;
  CHECK(std::abs(merged.sum - sum) <= kError * sum);
  for (int d = 0; d < 4; ++d) CHECK(std::abs(merged.value[d] - value[d]) <= kError * magnitude[d]);
}

bool same_state(const Merged& a, const Merged& b) {
  return same_bits(std::vector<Merged>{a}, std::vector<Merged>{b});
}

TEST_CASE("MergedState puts the parts of every row together, each read once", "[cuda][device]") {
  REQUIRE_CUDA_DEVICE();
  const int lane_shift = GENERATE(0, 1, 2);
  const None none = GENERATE(None::kNever, None::kOften, None::kAllButLast, None::kAlways);
  const int rows = 32 >> lane_shift;
  for (int num_parts = 1; num_parts <= 40; ++num_parts) {
    CAPTURE(lane_shift, static_cast<int>(none), num_parts);
    std::vector<Part> parts;
    for (int row = 0; row < rows; ++row) {
      for (int i = 0; i < num_parts; ++i) parts.push_back(make_part(row, i, num_parts, none));
    }
    const std::vector<Merged> merged = run_merged_state(parts, num_parts, lane_shift);
    for (int lane = 0; lane < 32; ++lane) {
      // All lanes of a row have the result.
      CHECK(same_state(merged[lane], merged[lane % rows]));
    }
    for (int row = 0; row < rows; ++row) check_merged(parts, num_parts, row, merged[row]);
  }
}

TEST_CASE("MergedState merges in an order that neither rows nor absent parts change",
          "[cuda][device]") {
  REQUIRE_CUDA_DEVICE();
  const int lane_shift = GENERATE(0, 1, 2);
  const int num_parts = GENERATE(1, 3, 16, 23);
  CAPTURE(lane_shift, num_parts);
  const int rows = 32 >> lane_shift;
  const auto run = [&](int with_absent) {
    std::vector<Part> parts;
    for (int row = 0; row < rows; ++row) {  // all alike
      for (int i = 0; i < with_absent; ++i) {
        const None none = i < num_parts ? None::kNever : None::kAlways;
        parts.push_back(make_part(0, i, with_absent, none));
      }
    }
    return run_merged_state(parts, with_absent, lane_shift);
  };
  const std::vector<Merged> merged = run(num_parts);
  for (const Merged& of_lane : merged) CHECK(same_state(of_lane, merged[0]));
  CHECK(same_bits(run(num_parts + 17), merged));
}

// ---- merge_kernel -------------------------------------------------------------------------------

// A head dim that the library is not built for, and that does not divide a block's threads.
constexpr int kHeadDim = 192;

struct MergeCase {
  std::int64_t parts;
  std::int64_t total_q = 5;
  std::int64_t num_q_heads = 3;
  bool with_lse = true;
  int blocks = 2;  ///< fewer than there are rows for
};

template <Element T>
void check_merge_kernel(const MergeCase& of) {
  CAPTURE(of.parts, of.total_q, of.num_q_heads, of.with_lse, of.blocks);
  const Device device = cuda_device();
  const std::int64_t rows = of.total_q * of.num_q_heads;
  // Rows and heads with room between them.
  constexpr std::int64_t kHeadStride = kHeadDim + 8;
  const std::int64_t row_stride = of.num_q_heads * kHeadStride + 16;
  const std::int64_t part_stride = of.total_q * row_stride + 32;
  const std::int64_t lse_row_stride = of.num_q_heads + 1;
  const std::int64_t lse_part_stride = of.total_q * lse_row_stride + 3;
  const auto out_at = [&](std::int64_t row, std::int64_t head) {
    return row * row_stride + head * kHeadStride;
  };

  // Parts of rows that are none have outputs of NaN.
  std::vector<T> partial_out(of.parts * part_stride, from_float<T>(kNaN));
  std::vector<float> partial_lse(of.parts * lse_part_stride, kNaN);
  for (std::int64_t part = 0; part < of.parts; ++part) {
    for (std::int64_t i = 0; i < rows; ++i) {
      const std::int64_t row = i / of.num_q_heads;
      const std::int64_t head = i % of.num_q_heads;
      const std::uint64_t hash = mix(11, static_cast<std::uint64_t>(part * 1000 + i));
      const bool is_none = i == 0 || (i % 3 == 1 && hash % 2 == 0);  // all parts of row 0
      partial_lse[part * lse_part_stride + row * lse_row_stride + head] =
          is_none ? -kInfinity : 8.f * gaussian(hash);
      if (is_none) continue;
      for (int d = 0; d < kHeadDim; ++d) {
        partial_out[part * part_stride + out_at(row, head) + d] =
            from_float<T>(gaussian(mix(hash, static_cast<std::uint64_t>(d))));
      }
    }
  }

  const DeviceBuffer<T> in(device, partial_out);
  const DeviceBuffer<float> in_lse(device, partial_lse);
  const DeviceBuffer<T> out(device, of.total_q * row_stride, from_float<T>(kNaN));
  const DeviceBuffer<float> lse(device, of.total_q * lse_row_stride, kNaN);
  cuda::MergeParams<T> params{};
  params.partial_out = in.data();
  params.partial_out_part_stride = part_stride;
  params.partial_out_row_stride = row_stride;
  params.partial_out_head_stride = kHeadStride;
  params.partial_lse = in_lse.data();
  params.partial_lse_part_stride = lse_part_stride;
  params.partial_lse_row_stride = lse_row_stride;
  params.out = out.data();
  params.out_row_stride = row_stride;
  params.out_head_stride = kHeadStride;
  params.lse = of.with_lse ? lse.data() : nullptr;
  params.lse_row_stride = lse_row_stride;
  params.parts = of.parts;
  params.total_q = of.total_q;
  params.num_q_heads = of.num_q_heads;
  run_kernel(cuda::merge_kernel<T, kHeadDim>, of.blocks, cuda::kMergeThreads, 0, params);
  CHECK(out.guards_intact());
  CHECK(lse.guards_intact());

  const std::vector<T> merged = out.read();
  const std::vector<float> merged_lse = lse.read();
  // Half a unit in the last place of T, and what fp32 errs before.
  const double rounding = std::same_as<T, float> ? 0 : 0x1p-8;
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::int64_t row = i / of.num_q_heads;
    const std::int64_t head = i % of.num_q_heads;
    CAPTURE(row, head);
    const auto lse_of = [&](std::int64_t part) {
      return double{partial_lse[part * lse_part_stride + row * lse_row_stride + head]};
    };
    double max = -std::numeric_limits<double>::infinity();
    for (std::int64_t part = 0; part < of.parts; ++part) max = std::max(max, lse_of(part));
    double sum = 0;
    for (std::int64_t part = 0; part < of.parts && std::isfinite(max); ++part) {
      sum += std::exp(lse_of(part) - max);
    }
    int wrong = 0;
    for (int d = 0; d < kHeadDim; ++d) {
      double weighted = 0;
      double magnitude = 0;
      for (std::int64_t part = 0; part < of.parts; ++part) {
        if (std::isinf(lse_of(part))) continue;
        const double weight = std::exp(lse_of(part) - max) / sum;
        const double value = to_float(partial_out[part * part_stride + out_at(row, head) + d]);
        weighted += weight * value;
        magnitude += weight * std::abs(value);
      }
      const double actual = to_float(merged[out_at(row, head) + d]);
      const double error = std::abs(actual - weighted);
      wrong += error <= 1e-5 * magnitude + rounding * std::abs(weighted) ? 0 : 1;
    }
    CHECK(wrong == 0);
    const float actual_lse = merged_lse[row * lse_row_stride + head];
    if (!of.with_lse) {
      CHECK(std::isnan(actual_lse));
    } else if (std::isinf(max)) {
      CHECK(actual_lse == -kInfinity);
    } else {
      CHECK(std::abs(actual_lse - (max + std::log(sum))) <= 2e-6 * (1 + std::abs(max)));
    }
  }
}

template <Element T>
void check_merge_kernels() {
  for (std::int64_t parts = 1; parts <= 9; ++parts) check_merge_kernel<T>({.parts = parts});
  check_merge_kernel<T>({.parts = 40});
  check_merge_kernel<T>({.parts = 3, .total_q = 1, .num_q_heads = 1, .blocks = 1});
  check_merge_kernel<T>({.parts = 3, .total_q = 97, .num_q_heads = 7, .blocks = 3});
  check_merge_kernel<T>({.parts = 2, .with_lse = false});
}

TEST_CASE("merge_kernel puts partial outputs of any head dim together", "[cuda][device]") {
  REQUIRE_CUDA_DEVICE();
  SECTION("float") { check_merge_kernels<float>(); }
  SECTION("bfloat16") { check_merge_kernels<bfloat16>(); }
}

}  // namespace
}  // namespace hip_attn
