#include "hip_attn/sink_logits.hpp"

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
#include "support/same_bits.hpp"
#include "support/through_c.hpp"
#include "support/values.hpp"

namespace hip_attn {
namespace {

using namespace test;

constexpr std::int64_t kHeads = 3;

template <Element T>
struct Rows {
  std::vector<T> out;      ///< [rows, heads, D]
  std::vector<float> lse;  ///< [rows, heads]
};

template <Element T>
Rows<T> random_rows(std::int64_t rows, std::int64_t head_dim, float spread) {
  Rows<T> made;
  for (std::int64_t i = 0; i < rows * kHeads * head_dim; ++i) {
    made.out.push_back(from_float<T>(gaussian(mix(21, i))));
  }
  for (std::int64_t i = 0; i < rows * kHeads; ++i) {
    made.lse.push_back(spread * gaussian(mix(22, i)));
  }
  return made;
}

/// Runs add_sink_logits on rows with padding behind them, in C++ and in C, whose bits are the same.
template <Element T>
Rows<T> add_sinks(Device device, const Rows<T>& rows, const std::vector<float>& sinks,
                  std::int64_t head_dim) {
  const std::int64_t stride = head_dim + 8;
  const std::int64_t lse_stride = kHeads + 1;
  const std::int64_t num_rows = std::ssize(rows.lse) / kHeads;
  std::vector<T> padded(num_rows * kHeads * stride, from_float<T>(kNaN));
  std::vector<float> padded_lse(num_rows * lse_stride, kNaN);
  for (std::int64_t i = 0; i < num_rows * kHeads; ++i) {
    std::copy_n(rows.out.data() + i * head_dim, head_dim, padded.data() + i * stride);
    padded_lse[i / kHeads * lse_stride + i % kHeads] = rows.lse[i];
  }
  const DeviceBuffer<float> sink_logits(device, sinks);
  std::vector<Rows<T>> results;
  for (const bool through_c : {false, true}) {
    const DeviceBuffer<T> out(device, padded);
    const DeviceBuffer<float> lse(device, padded_lse);
    AddSinkLogitsArgs<T> args;
    args.sink_logits = {sink_logits.data(), {kHeads}};
    args.out = {out.data(), {num_rows, kHeads, head_dim}, {kHeads * stride, stride, 1}};
    args.lse = {lse.data(), {num_rows, kHeads}, {lse_stride, 1}};
    const Status status =
        through_c ? add_sink_logits_through_c(device, args) : add_sink_logits<T>(device, args);
    INFO(status.message());
    REQUIRE(status.ok());
    REQUIRE((out.guards_intact() && lse.guards_intact() && sink_logits.guards_intact()));
    Rows<T>& result = results.emplace_back();
    const std::vector<T> host = out.read();
    for (std::int64_t i = 0; i < std::ssize(host); ++i) {
      if (i % stride < head_dim) {
        result.out.push_back(host[i]);
      } else {
        REQUIRE(std::isnan(to_float(host[i])));
      }
    }
    const std::vector<float> host_lse = lse.read();
    for (std::int64_t i = 0; i < std::ssize(host_lse); ++i) {
      if (i % lse_stride < kHeads) {
        result.lse.push_back(host_lse[i]);
      } else {
        REQUIRE(std::isnan(host_lse[i]));
      }
    }
  }
  CHECK(same_bits(results[0].out, results[1].out));
  CHECK(same_bits(results[0].lse, results[1].lse));
  return results[0];
}

/// A softmax over the row's keys and the sink, every operation in Float.
template <typename Float, Element T>
RowStates<Float> reference_sinks(const Rows<T>& rows, const std::vector<float>& sinks,
                                 std::int64_t head_dim) {
  RowStates<Float> states;
  for (std::size_t i = 0; i < rows.lse.size(); ++i) {
    const Float lse = rows.lse[i];
    const Float sink = sinks[i % kHeads];
    const Float max = std::max(lse, sink);
    const Float sum = std::exp(lse - max) + std::exp(sink - max);
    for (std::int64_t d = 0; d < head_dim; ++d) {
      states.out.push_back(std::exp(lse - max) / sum * to_float(rows.out[i * head_dim + d]));
    }
    states.lse.push_back(max + std::log(sum));
  }
  return states;
}

HIP_ATTN_TYPED_TEST_CASE("add_sink_logits agrees with float64") {
  const Device device = GENERATE(from_range(data_devices()));
  const std::int64_t head_dim = GENERATE(from_range(head_dims()));
  const std::int64_t num_rows = GENERATE(1, 5, 700);
  // Sinks of like weight, and those that leave nothing of a row, or a row as it is.
  const float spread = GENERATE(1.f, 300.f);
  const Rows<TestType> rows = random_rows<TestType>(num_rows, head_dim, spread);
  const std::vector<float> sinks{0.5f * spread, -0.3f * spread, 0.f};
  const Rows<TestType> result = add_sinks(device, rows, sinks, head_dim);
  check_close<TestType>(result.out, result.lse, reference_sinks<double>(rows, sinks, head_dim),
                        reference_sinks<float>(rows, sinks, head_dim));
}

HIP_ATTN_TYPED_TEST_CASE("a sink of -inf leaves every bit as it is") {
  const Device device = GENERATE(from_range(data_devices()));
  const std::int64_t head_dim = least_head_dim();
  const Rows<TestType> rows = random_rows<TestType>(5, head_dim, 50.f);
  const Rows<TestType> result =
      add_sinks(device, rows, std::vector<float>(kHeads, -kInfinity), head_dim);
  CHECK(same_bits(result.out, rows.out));
  CHECK(same_bits(result.lse, rows.lse));
}

HIP_ATTN_TYPED_TEST_CASE("a row that attended to nothing has the sink alone") {
  const Device device = GENERATE(from_range(data_devices()));
  const std::int64_t head_dim = least_head_dim();
  Rows<TestType> rows = random_rows<TestType>(2, head_dim, 1.f);
  std::ranges::fill(rows.out, from_float<TestType>(kNaN));
  std::ranges::fill(rows.lse, -kInfinity);
  const std::vector<float> sinks{1.5f, -kInfinity, -20.f};
  const Rows<TestType> result = add_sinks(device, rows, sinks, head_dim);
  for (const TestType value : result.out) REQUIRE(to_float(value) == 0.f);
  CHECK(result.lse == std::vector<float>{1.5f, -kInfinity, -20.f, 1.5f, -kInfinity, -20.f});
}

HIP_ATTN_TYPED_TEST_CASE("no rows have sinks") {
  const Device device = GENERATE(from_range(data_devices()));
  CHECK(add_sinks<TestType>(device, {}, {0.f, 0.f, 0.f}, least_head_dim()).out.empty());
}

HIP_ATTN_TYPED_TEST_CASE("a sink is what merge_states makes of a part without values") {
  const std::int64_t head_dim = least_head_dim();
  const std::int64_t num_rows = 4;
  const Rows<TestType> rows = random_rows<TestType>(num_rows, head_dim, 2.f);
  const std::vector<float> sinks{-1.f, 0.25f, 3.f};
  std::vector<TestType> partial_out = rows.out;
  partial_out.resize(2 * rows.out.size(), from_float<TestType>(0.f));
  std::vector<float> partial_lse = rows.lse;
  for (std::int64_t i = 0; i < num_rows; ++i) {
    partial_lse.insert(partial_lse.end(), sinks.begin(), sinks.end());
  }
  std::vector<TestType> out(rows.out.size());
  std::vector<float> lse(rows.lse.size());
  MergeStatesArgs<TestType> args;
  args.partial_out = {partial_out.data(), {2, num_rows, kHeads, head_dim}};
  args.partial_lse = {partial_lse.data(), {2, num_rows, kHeads}};
  args.out = {out.data(), {num_rows, kHeads, head_dim}};
  args.lse = TensorView<float, 2>(lse.data(), {num_rows, kHeads});
  REQUIRE(merge_states<TestType>(kCpu, args).ok());
  const Rows<TestType> result = add_sinks(kCpu, rows, sinks, head_dim);
  // Both round once to T, and may do so to neighbours.
  const float rounding = std::same_as<TestType, float>     ? 1e-6f
                         : std::same_as<TestType, float16> ? 0x1p-10f
                                                           : 0x1p-7f;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const float expected = to_float(out[i]);
    REQUIRE(std::abs(to_float(result.out[i]) - expected) <= rounding * std::abs(expected));
  }
  for (std::size_t i = 0; i < lse.size(); ++i) {
    REQUIRE(std::abs(result.lse[i] - lse[i]) <= 1e-6f * (1.f + std::abs(lse[i])));
  }
}

}  // namespace
}  // namespace hip_attn
