// The cases of hip_attn_result_hashes: calls of one operator that follow one another on the same
// memory, said without element type, head dim or device.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "hip_attn/attention.hpp"

namespace hip_attn::bench {

struct Request {
  std::int64_t seq_len = 0;
  std::int64_t rows = 1;
};

// What a call is asked for: it may take another way where it has less to write.
enum class Outputs { kAll, kNoSelection, kOutAlone };

struct Call {
  std::string name;
  std::vector<Request> requests;
  Outputs outputs = Outputs::kAll;
  std::int64_t first_row = 0;                   // of the case's queries
  std::vector<std::int32_t> refresh_from = {};  // of each request; none: a call without a cache
  bool given = false;  // attends to the selection of the latest call that wrote one
};

enum class PageOrder { kNhd, kHnd, kContiguous };
enum class Contents {
  kRandom,
  kTies,      // all keys are equal
  kInfinite,  // some values are infinite, one is NaN
};

struct Case {
  std::string name;
  Operator op = Operator::kPrefill;
  HipConfig config;
  std::vector<Call> calls;
  std::int64_t num_q_heads = 8;
  std::int64_t num_kv_heads = 2;
  std::int64_t page_size = 16;
  PageOrder order = PageOrder::kNhd;
  Contents contents = Contents::kRandom;
  std::optional<float> scale = {};
  std::optional<float> logit_softcap = {};
  std::int64_t planned_seq_len = 0;  // where the plan is made for longer requests than there are
  // Absent: as planned. Otherwise what the plan chooses would hide the search of short contexts.
  std::optional<std::int64_t> dense_until = 0;
};

// Lengths of the longest requests.
struct Longest {
  std::int64_t prefill;
  std::int64_t decode;
};

std::vector<Case> result_cases(const Longest& longest);

}  // namespace hip_attn::bench
