/// An attention problem as the mathematics sees it: requests with their queries, keys and values,
/// and nothing about memory.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "hip_attn/attention.hpp"
#include "hip_attn/types.hpp"
#include "tested_types.hpp"
#include "values.hpp"

namespace hip_attn::test {

struct Heads {
  std::int64_t num_q_heads = 4;
  std::int64_t num_kv_heads = 2;
  std::int64_t head_dim = 64;

  [[nodiscard]] std::int64_t group() const { return num_q_heads / num_kv_heads; }
};

/// One request. Values depend on `seed`, the position and the head: never on q_len or seq_len.
struct RequestSpec {
  std::int64_t seq_len = 0;
  std::int64_t q_len = 0;
  std::uint64_t seed = 1;
};

template <TestedTypes P>
struct Request {
  std::int64_t seq_len = 0;
  std::int64_t q_len = 0;
  Heads heads;
  std::vector<CacheType<P>> k;  ///< [seq_len, Hk, D]
  std::vector<CacheType<P>> v;  ///< [seq_len, Hk, D]
  std::vector<QueryType<P>> q;  ///< [q_len, Hq, D]

  [[nodiscard]] std::int64_t kv_offset(std::int64_t token, std::int64_t head) const {
    return (token * heads.num_kv_heads + head) * heads.head_dim;
  }
  [[nodiscard]] const CacheType<P>* key(std::int64_t token, std::int64_t head) const {
    return k.data() + kv_offset(token, head);
  }
  [[nodiscard]] const CacheType<P>* value(std::int64_t token, std::int64_t head) const {
    return v.data() + kv_offset(token, head);
  }
  [[nodiscard]] const QueryType<P>* query(std::int64_t row, std::int64_t head) const {
    return q.data() + (row * heads.num_q_heads + head) * heads.head_dim;
  }
  [[nodiscard]] std::int64_t first_position() const { return seq_len - q_len; }
};

template <TestedTypes P>
Request<P> make_request(const Heads& heads, const RequestSpec& spec,
                        Values values = Values::kGaussian) {
  Request<P> request{spec.seq_len, spec.q_len, heads, {}, {}, {}};
  const std::int64_t kv_row = heads.num_kv_heads * heads.head_dim;
  request.k.resize(spec.seq_len * kv_row);
  request.v.resize(spec.seq_len * kv_row);
  for (std::int64_t i = 0; i < spec.seq_len * kv_row; ++i) {
    const std::uint64_t key_hash = mix(3 * spec.seed, values == Values::kTies ? i % kv_row : i);
    const std::uint64_t value_hash = mix(3 * spec.seed + 1, i);
    const bool exact = values != Values::kGaussian;
    request.k[i] = from_float<CacheType<P>>(exact ? static_cast<float>(small_integer(key_hash))
                                                  : gaussian(key_hash));
    request.v[i] = from_float<CacheType<P>>(exact ? static_cast<float>(small_integer(value_hash))
                                                  : gaussian(value_hash));
  }
  const std::int64_t q_row = heads.num_q_heads * heads.head_dim;
  request.q.resize(spec.q_len * q_row);
  // A request of length 0 may have (padding) rows; they stand at no position.
  const std::int64_t first = std::max<std::int64_t>(0, spec.seq_len - spec.q_len) * q_row;
  for (std::int64_t i = 0; i < spec.q_len * q_row; ++i) {
    const std::uint64_t hash = mix(3 * spec.seed + 2, first + i);
    request.q[i] = from_float<QueryType<P>>(
        values == Values::kGaussian ? gaussian(hash) : exact_query<QueryType<P>>(hash));
  }
  return request;
}

template <TestedTypes P>
struct Problem {
  Heads heads;
  std::vector<Request<P>> requests;

  [[nodiscard]] std::int64_t batch() const { return static_cast<std::int64_t>(requests.size()); }
  [[nodiscard]] std::int64_t total_q() const { return first_row(batch()); }
  /// cu_seqlens_q[b].
  [[nodiscard]] std::int64_t first_row(std::int64_t b) const {
    std::int64_t rows = 0;
    for (std::int64_t i = 0; i < b; ++i) rows += requests[i].q_len;
    return rows;
  }
  [[nodiscard]] std::int64_t max_seq_len() const {
    std::int64_t longest = 0;
    for (const auto& request : requests) longest = std::max(longest, request.seq_len);
    return longest;
  }
  [[nodiscard]] AttentionShape shape(Device device) const {
    return {device,        batch(), total_q(), max_seq_len(), heads.num_q_heads, heads.num_kv_heads,
            heads.head_dim};
  }
};

template <TestedTypes P>
Problem<P> make_problem(const Heads& heads, const std::vector<RequestSpec>& specs,
                        Values values = Values::kGaussian) {
  Problem<P> problem{heads, {}};
  for (const RequestSpec& spec : specs) {
    problem.requests.push_back(make_request<P>(heads, spec, values));
  }
  return problem;
}

/// The query rows of one request that share a selection (docs/guide/algorithm.md, "Query blocks").
struct QueryBlock {
  std::int64_t request;
  std::int64_t first_row;      ///< within the request
  std::int64_t rows;           ///< >= 1
  std::int64_t p0;             ///< position of first_row
  std::int64_t selection_row;  ///< row of a BlockSelection
};

/// The query blocks of a call, straight from the definition: a new block wherever a position is a
/// multiple of block_q (prefill), or one per request (decode). Requests of length 0 have none.
template <TestedTypes P>
std::vector<QueryBlock> query_blocks(const Problem<P>& problem, Operator op,
                                     const HipConfig& config) {
  std::vector<QueryBlock> blocks;
  for (std::int64_t b = 0; b < problem.batch(); ++b) {
    const Request<P>& request = problem.requests[b];
    if (request.seq_len == 0) continue;
    std::int64_t n = 0;
    for (std::int64_t row = 0; row < request.q_len; ++row) {
      const std::int64_t position = request.first_position() + row;
      if (row == 0 || (op == Operator::kPrefill && position % config.block_q == 0)) {
        const std::int64_t selection =
            op == Operator::kDecode ? b
                                    : selection_row(problem.first_row(b), b, n++, config.block_q);
        blocks.push_back({b, row, 0, position, selection});
      }
      ++blocks.back().rows;
    }
  }
  return blocks;
}

}  // namespace hip_attn::test
