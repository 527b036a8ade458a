// Requests of a known content, on the host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels.hpp"

namespace own {

inline constexpr std::int64_t kQueryHeads = 4;
inline constexpr std::int64_t kKvHeads = 2;
inline constexpr std::int64_t kGroup = kQueryHeads / kKvHeads;

struct Request {
  std::int64_t seq_len;
  std::int64_t q_len;
  std::int64_t first_row;    ///< of its rows among those of all requests
  std::int64_t first_token;  ///< of its keys likewise
};

/// Elements are -3 to 3: products with them, and with means of two of them, are exact in any order.
struct Problem {
  std::vector<Request> requests;
  std::int64_t total_q = 0;
  std::int64_t total_tokens = 0;
  std::vector<float> q;  ///< [total_q, kQueryHeads, kHeadDim]
  std::vector<float> k;  ///< [total_tokens, kKvHeads, kHeadDim]
  std::vector<float> v;

  [[nodiscard]] const float* query(std::int64_t row, std::int64_t head) const {
    return q.data() + (row * kQueryHeads + head) * kHeadDim;
  }
  [[nodiscard]] const float* key(const Request& request, std::int64_t at, std::int64_t head) const {
    return k.data() + ((request.first_token + at) * kKvHeads + head) * kHeadDim;
  }
  [[nodiscard]] const float* value(const Request& request, std::int64_t at,
                                   std::int64_t head) const {
    return v.data() + ((request.first_token + at) * kKvHeads + head) * kHeadDim;
  }
};

struct Lengths {
  std::int64_t seq_len;
  std::int64_t q_len;
};

inline Problem make_problem(const std::vector<Lengths>& lengths) {
  Problem problem;
  for (const auto& [seq_len, q_len] : lengths) {
    problem.requests.push_back({seq_len, q_len, problem.total_q, problem.total_tokens});
    problem.total_q += q_len;
    problem.total_tokens += seq_len;
  }
  std::uint64_t state = 1;
  const auto integers = [&](std::int64_t count) {
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      value = static_cast<float>(static_cast<int>((state >> 33) % 7) - 3);
    }
    return values;
  };
  problem.q = integers(problem.total_q * kQueryHeads * kHeadDim);
  problem.k = integers(problem.total_tokens * kKvHeads * kHeadDim);
  problem.v = integers(problem.total_tokens * kKvHeads * kHeadDim);
  return problem;
}

}  // namespace own
