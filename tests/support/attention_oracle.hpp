/// Attention of every row over a given selection, in float64 and as a plain float32 program, and
/// the bound that the second sets for the operators.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "catch.hpp"
#include "problem.hpp"
#include "reference.hpp"
#include "run.hpp"

namespace hip_attn::test {

/// Attention of all rows: [total_q, Hq, D] and [total_q, Hq].
template <typename Float>
struct RowStates {
  std::vector<Float> out;
  std::vector<Float> lse;
};

/// One row and query head over `keys`, every operation in Float.
template <typename Float, TestedTypes P>
void attend_row(const Request<P>& request, std::int64_t row, std::int64_t q_head,
                const std::vector<std::int64_t>& keys, const LogitOptions& options, Float* out,
                Float* lse) {
  const std::int64_t head_dim = request.heads.head_dim;
  const std::int64_t kv_head = q_head / request.heads.group();
  const Float scale = options.scale ? static_cast<Float>(*options.scale)
                                    : 1 / std::sqrt(static_cast<Float>(head_dim));
  const QueryType<P>* q = request.query(row, q_head);
  std::vector<Float> p(keys.size());
  Float max = -std::numeric_limits<Float>::infinity();
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const CacheType<P>* k = request.key(keys[i], kv_head);
    Float product = 0;
    for (std::int64_t d = 0; d < head_dim; ++d) {
      product += static_cast<Float>(to_float(q[d])) * static_cast<Float>(to_float(k[d]));
    }
    p[i] = product * scale;
    if (options.softcap) {
      const Float cap = static_cast<Float>(*options.softcap);
      p[i] = cap * std::tanh(p[i] / cap);
    }
    max = std::max(max, p[i]);
  }
  std::fill_n(out, head_dim, Float(0));
  *lse = -std::numeric_limits<Float>::infinity();
  if (keys.empty()) return;
  Float sum = 0;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    p[i] = std::exp(p[i] - max);
    sum += p[i];
  }
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const CacheType<P>* v = request.value(keys[i], kv_head);
    for (std::int64_t d = 0; d < head_dim; ++d) {
      out[d] += p[i] * static_cast<Float>(to_float(v[d]));
    }
  }
  for (std::int64_t d = 0; d < head_dim; ++d) out[d] /= sum;
  *lse = max + std::log(sum);
}

/// Attention of all rows over the selection that a run reported.
template <typename Float, TestedTypes P>
RowStates<Float> attend_all(Operator op, const HipConfig& config, const Problem<P>& problem,
                            const HostSelection& selection, const LogitOptions& options = {}) {
  const Heads& heads = problem.heads;
  RowStates<Float> states;
  states.out.assign(problem.total_q() * heads.num_q_heads * heads.head_dim, Float(0));
  states.lse.assign(problem.total_q() * heads.num_q_heads, -std::numeric_limits<Float>::infinity());
  for (const QueryBlock& block : query_blocks(problem, op, config)) {
    for (std::int64_t row = 0; row < block.rows; ++row) {
      for (std::int64_t head = 0; head < heads.num_q_heads; ++head) {
        const std::int64_t kv_head = head / heads.group();
        const std::vector<std::int64_t> keys =
            attended_keys(config, selection.unit(block.selection_row, kv_head),
                          selection.w0(block.selection_row, kv_head), block.p0 + row);
        const std::int64_t at =
            (problem.first_row(block.request) + block.first_row + row) * heads.num_q_heads + head;
        attend_row<Float>(problem.requests[block.request], block.first_row + row, head, keys,
                          options, states.out.data() + at * heads.head_dim, states.lse.data() + at);
      }
    }
  }
  return states;
}

/// Half a unit in the last place of 1.
template <Element T>
constexpr double unit_roundoff() {
  return kElementType<T> == ElementType::kFloat32   ? 0x1p-24
         : kElementType<T> == ElementType::kFloat16 ? 0x1p-11
                                                    : 0x1p-8;
}

template <typename A, typename B>
double max_error(const std::vector<A>& actual, const std::vector<B>& exact) {
  double error = 0;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    const double difference = std::abs(static_cast<double>(actual[i]) - exact[i]);
    if (static_cast<double>(actual[i]) == exact[i]) continue;  // equal infinities
    error = std::isnan(difference) ? std::numeric_limits<double>::infinity()
                                   : std::max(error, difference);
  }
  return error;
}

template <typename A>
double max_finite(const std::vector<A>& values) {
  double largest = 0;
  for (const A value : values) {
    if (std::isfinite(value)) largest = std::max(largest, std::abs(static_cast<double>(value)));
  }
  return largest;
}

template <Element T>
std::vector<float> to_floats(const std::vector<T>& values) {
  std::vector<float> floats;
  for (const T value : values) floats.push_back(to_float(value));
  return floats;
}

/// An error of at most twice that of the plain program of the same precision. The floors serve
/// calls of so few rows that the plain program is exact by luck: one rounding to P, and for the
/// fp32 sums 1e-6, which is eight roundings of fp32, relative to the largest value.
template <Element T>
void check_close(const std::vector<T>& out, const std::vector<float>& lse,
                 const RowStates<double>& exact, const RowStates<float>& naive) {
  std::vector<float> rounded;
  for (const float value : naive.out) rounded.push_back(to_float(from_float<T>(value)));
  const std::vector<float> out_floats = to_floats(out);
  REQUIRE(out_floats.size() == exact.out.size());
  REQUIRE(lse.size() == exact.lse.size());

  const double rounding = kElementType<T> == ElementType::kFloat32 ? 0 : unit_roundoff<T>();
  CHECK(max_error(out_floats, exact.out) <=
        2 * max_error(rounded, exact.out) + (1e-6 + rounding) * max_finite(exact.out));
  CHECK(max_error(lse, exact.lse) <=
        2 * max_error(naive.lse, exact.lse) + 1e-6 * std::max(1.0, max_finite(exact.lse)));
}

/// The result of a run is attention over the selection that it reports.
template <TestedTypes P>
void check_attention(Operator op, const HipConfig& config, const Problem<P>& problem,
                     const RunResult<P>& result, const LogitOptions& options = {}) {
  check_close(result.out, result.lse,
              attend_all<double>(op, config, problem, result.selection, options),
              attend_all<float>(op, config, problem, result.selection, options));
}

}  // namespace hip_attn::test
