#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "catch.hpp"
#include "hip_attn/merge.hpp"
#include "support/attention_oracle.hpp"
#include "support/built.hpp"
#include "support/device_buffer.hpp"
#include "support/values.hpp"

namespace hip_attn {
namespace {

using namespace test;

constexpr std::int64_t kRows = 5;
constexpr std::int64_t kHeads = 3;

struct Merged {
  std::vector<float> out;  ///< [rows, heads, D], of T but as floats
  std::vector<float> lse;  ///< [rows, heads]
};

/// Runs merge_states on dense inputs, with padded rows in memory.
template <Element T>
Merged merge(Device device, std::int64_t parts, std::int64_t rows, std::int64_t head_dim,
             const std::vector<T>& partial_out, const std::vector<float>& partial_lse) {
  const std::int64_t stride = head_dim + 8;
  std::vector<T> padded(parts * rows * kHeads * stride, from_float<T>(kNaN));
  for (std::int64_t i = 0; i < parts * rows * kHeads; ++i) {
    std::copy_n(partial_out.data() + i * head_dim, head_dim, padded.data() + i * stride);
  }
  const DeviceBuffer<T> in(device, padded);
  const DeviceBuffer<float> in_lse(device, partial_lse);
  const DeviceBuffer<T> out(device, rows * kHeads * stride, from_float<T>(kNaN));
  const DeviceBuffer<float> lse(device, rows * kHeads, kNaN);

  MergeStatesArgs<T> args;
  args.partial_out = {in.data(),
                      {parts, rows, kHeads, head_dim},
                      {rows * kHeads * stride, kHeads * stride, stride, 1}};
  args.partial_lse = {in_lse.data(), {parts, rows, kHeads}};
  args.out = {out.data(), {rows, kHeads, head_dim}, {kHeads * stride, stride, 1}};
  args.lse = TensorView<float, 2>(lse.data(), {rows, kHeads});
  const Status status = merge_states<T>(device, args);
  INFO(status.message());
  REQUIRE(status.ok());
  REQUIRE(
      (in.guards_intact() && in_lse.guards_intact() && out.guards_intact() && lse.guards_intact()));

  Merged merged{{}, lse.read()};
  const std::vector<T> host = out.read();
  for (std::int64_t i = 0; i < out.size(); ++i) {
    const float value = to_float(host[i]);
    if (i % stride < head_dim) {
      merged.out.push_back(value);
    } else {
      REQUIRE(std::isnan(value));
    }
  }
  return merged;
}

/// The formula, every operation in Float.
template <typename Float, Element T>
RowStates<Float> reference_merge(std::int64_t parts, std::int64_t rows, std::int64_t head_dim,
                                 const std::vector<T>& partial_out,
                                 const std::vector<float>& partial_lse) {
  RowStates<Float> merged;
  for (std::int64_t row = 0; row < rows * kHeads; ++row) {
    Float max = -std::numeric_limits<Float>::infinity();
    for (std::int64_t i = 0; i < parts; ++i) {
      max = std::max(max, static_cast<Float>(partial_lse[i * rows * kHeads + row]));
    }
    Float sum = 0;
    std::vector<Float> out(head_dim, 0);
    for (std::int64_t i = 0; i < parts; ++i) {
      const Float lse = partial_lse[i * rows * kHeads + row];
      if (std::isinf(lse)) continue;
      const Float weight = std::exp(lse - max);
      sum += weight;
      for (std::int64_t d = 0; d < head_dim; ++d) {
        out[d] += weight * to_float(partial_out[(i * rows * kHeads + row) * head_dim + d]);
      }
    }
    for (const Float value : out) merged.out.push_back(sum == 0 ? 0 : value / sum);
    merged.lse.push_back(max + (sum == 0 ? 0 : std::log(sum)));
  }
  return merged;
}

template <Element T>
std::vector<T> random_out(std::int64_t size) {
  std::vector<T> values(size);
  for (std::int64_t i = 0; i < size; ++i) values[i] = from_float<T>(gaussian(mix(11, i)));
  return values;
}

template <Element T>
void check_merge(Device device, std::int64_t parts, std::int64_t head_dim,
                 const std::vector<T>& partial_out, const std::vector<float>& partial_lse) {
  const Merged merged = merge<T>(device, parts, kRows, head_dim, partial_out, partial_lse);
  std::vector<T> out;
  for (const float value : merged.out) out.push_back(from_float<T>(value));
  check_close<T>(out, merged.lse,
                 reference_merge<double>(parts, kRows, head_dim, partial_out, partial_lse),
                 reference_merge<float>(parts, kRows, head_dim, partial_out, partial_lse));
}

HIP_ATTN_TYPED_TEST_CASE("merge_states agrees with float64") {
  const Device device = GENERATE(from_range(data_devices()));
  const std::int64_t head_dim = GENERATE(from_range(head_dims()));
  const std::int64_t parts = GENERATE(1, 2, 5);
  // Parts of like weight, and parts that leave exp's range as they are.
  const float spread = GENERATE(1.f, 300.f);

  const auto out = random_out<TestType>(parts * kRows * kHeads * head_dim);
  std::vector<float> lse(parts * kRows * kHeads);
  for (std::size_t i = 0; i < lse.size(); ++i) lse[i] = spread * gaussian(mix(12, i));
  check_merge<TestType>(device, parts, head_dim, out, lse);
}

HIP_ATTN_TYPED_TEST_CASE("a part with lse -inf counts for nothing, whatever its out holds") {
  const Device device = GENERATE(from_range(data_devices()));
  const std::int64_t head_dim = least_head_dim();
  auto out = random_out<TestType>(3 * kRows * kHeads * head_dim);
  std::vector<float> lse(3 * kRows * kHeads);
  for (std::size_t i = 0; i < lse.size(); ++i) {
    lse[i] = gaussian(mix(13, i));
    if (mix(14, i) % 3 != 0) continue;
    lse[i] = -kInfinity;
    for (std::int64_t d = 0; d < head_dim; ++d) {
      out[i * head_dim + d] = from_float<TestType>(d % 2 == 0 ? kNaN : kInfinity);
    }
  }
  check_merge<TestType>(device, 3, head_dim, out, lse);
}

HIP_ATTN_TYPED_TEST_CASE("merging parts that attended to nothing gives out 0 and lse -inf") {
  const Device device = GENERATE(from_range(data_devices()));
  const std::int64_t head_dim = GENERATE(from_range(head_dims()));
  const std::int64_t parts = GENERATE(0, 1, 2);
  const std::vector<TestType> out(parts * kRows * kHeads * head_dim, from_float<TestType>(kNaN));
  const std::vector<float> lse(parts * kRows * kHeads, -kInfinity);
  const Merged merged = merge<TestType>(device, parts, kRows, head_dim, out, lse);
  for (const float value : merged.out) REQUIRE(value == 0.f);
  for (const float value : merged.lse) REQUIRE(value == -kInfinity);
}

HIP_ATTN_TYPED_TEST_CASE("merging one part gives it back bit for bit") {
  const Device device = GENERATE(from_range(data_devices()));
  const std::int64_t head_dim = least_head_dim();
  const auto out = random_out<TestType>(kRows * kHeads * head_dim);
  std::vector<float> lse(kRows * kHeads);
  for (std::size_t i = 0; i < lse.size(); ++i) lse[i] = 50 * gaussian(mix(15, i));
  const Merged merged = merge<TestType>(device, 1, kRows, head_dim, out, lse);
  CHECK(merged.out == to_floats(out));
  CHECK(merged.lse == lse);
}

HIP_ATTN_TYPED_TEST_CASE("merging no rows is legal") {
  const Device device = GENERATE(from_range(data_devices()));
  const Merged merged = merge<TestType>(device, 2, 0, least_head_dim(), {}, {});
  CHECK(merged.out.empty());
}

HIP_ATTN_TYPED_TEST_CASE("merge_states without lse writes out alone") {
  const std::int64_t head_dim = least_head_dim();
  const DeviceBuffer<TestType> in(kCpu, 2 * head_dim, from_float<TestType>(1.5f));
  const DeviceBuffer<float> in_lse(kCpu, 2, 0.f);
  const DeviceBuffer<TestType> out(kCpu, head_dim, from_float<TestType>(kNaN));
  MergeStatesArgs<TestType> args;
  args.partial_out = {in.data(), {2, 1, 1, head_dim}};
  args.partial_lse = {in_lse.data(), {2, 1, 1}};
  args.out = {out.data(), {1, 1, head_dim}};
  REQUIRE(merge_states<TestType>(kCpu, args).ok());
  for (const TestType value : out.read()) CHECK(to_float(value) == 1.5f);
}

}  // namespace
}  // namespace hip_attn
