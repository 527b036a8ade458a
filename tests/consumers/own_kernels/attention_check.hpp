// Runs prefill or decode on the GPU and compares with the reference.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "device_array.hpp"
#include "hip_attn/cuda/launch/schedule.hpp"
#include "problem.hpp"
#include "reference.hpp"
#include "report.hpp"

namespace own {

/// What a configuration must come to for every row, so that no check is of less than it seems.
enum class Attends { kEveryKey, kSelection };

class AttentionCheck {
 public:
  /// portable: with the kernels that need no more than compute capability 8.0.
  AttentionCheck(const Problem& problem, hip_attn::Operator op, bool portable)
      : problem_(problem),
        op_(op),
        portable_(portable),
        columns_(columns_of(problem)),
        q_(elements(problem.q)),
        k_(num_pages() * kPageElements, nan()),
        v_(num_pages() * kPageElements, nan()),
        block_table_(make_block_table()),
        seq_lens_(make_seq_lens()),
        cu_seqlens_q_(make_cu_seqlens_q()) {
    fill_cache();
  }

  [[nodiscard]] bool run(const char* name, const hip_attn::HipConfig& config,
                         Attends attends) const {
    const hip_attn::AttentionShape shape{.device = hip_attn::cuda_device(),
                                         .batch = batch(),
                                         .total_q = problem_.total_q,
                                         .max_seq_len = columns_ * kPageSize,
                                         .num_q_heads = kQueryHeads,
                                         .num_kv_heads = kKvHeads,
                                         .head_dim = kHeadDim};
    const bool decodes = op_ == hip_attn::Operator::kDecode;
    hip_attn::AttentionPlan plan;
    if (!succeeds(name, decodes ? own::plan_decode(config, shape, plan)
                                : own::plan_prefill(config, shape, plan))) {
      return false;
    }
    plan.dense_until = 0;  // search, whether or not it pays
    if (portable_) hip_attn::cuda::use_portable_kernels(plan);

    const std::int64_t rows = plan.selection_rows;
    const std::int64_t width = plan.max_selected_blocks;
    const DeviceArray<Element> out(problem_.q.size(), nan());
    const DeviceArray<float> lse(static_cast<std::size_t>(problem_.total_q * kQueryHeads), NAN);
    const DeviceArray<std::int32_t> blocks(static_cast<std::size_t>(rows * kKvHeads * width), -1);
    const DeviceArray<std::int32_t> counts(static_cast<std::size_t>(rows * kKvHeads), -1);
    const DeviceArray<std::int32_t> window_start(static_cast<std::size_t>(rows * kKvHeads), -1);
    const DeviceArray<std::byte> workspace(plan.workspace_bytes, std::byte{0xff});
    Args args;
    args.q = {q_.data(), {problem_.total_q, kQueryHeads, kHeadDim}};
    args.kv = {pages(), hip_attn::TensorView<const std::int32_t, 2>(block_table_.data(),
                                                                    {batch(), columns_})};
    args.seq_lens = {seq_lens_.data(), {batch()}};
    args.cu_seqlens_q = {cu_seqlens_q_.data(), {batch() + 1}};
    args.out = {out.data(), {problem_.total_q, kQueryHeads, kHeadDim}};
    args.lse = hip_attn::TensorView<float, 2>(lse.data(), {problem_.total_q, kQueryHeads});
    args.selection_out = hip_attn::BlockSelection{{blocks.data(), {rows, kKvHeads, width}},
                                                  {counts.data(), {rows, kKvHeads}},
                                                  {window_start.data(), {rows, kKvHeads}}};
    const hip_attn::Workspace memory{workspace.data(), plan.workspace_bytes};
    if (!is_refused(name, call(plan, args, {}), hip_attn::StatusCode::kWorkspaceTooSmall,
                    "workspace has 0 bytes") ||
        !succeeds(name, call(plan, args, memory))) {
      return false;
    }
    const Result result{width,         out.read(),    lse.read(),
                        blocks.read(), counts.read(), window_start.read()};
    return compare(name, config, attends, result);
  }

 private:
  struct Result {
    std::int64_t width;  ///< of a row of `blocks`
    std::vector<Element> out;
    std::vector<float> lse;
    std::vector<std::int32_t> blocks;
    std::vector<std::int32_t> counts;
    std::vector<std::int32_t> window_start;
  };

  static constexpr std::int64_t kPageSize = 16;
  static constexpr std::size_t kPageElements = kPageSize * kKvHeads * kHeadDim;

  static Element nan() { return hip_attn::from_float<Element>(NAN); }

  static std::vector<Element> elements(const std::vector<float>& values) {
    std::vector<Element> result;
    for (const float value : values) result.push_back(hip_attn::from_float<Element>(value));
    return result;
  }

  static std::int64_t columns_of(const Problem& problem) {
    std::int64_t columns = 0;
    for (const Request& request : problem.requests) {
      columns = std::max(columns, (request.seq_len + kPageSize - 1) / kPageSize);
    }
    return columns;
  }

  [[nodiscard]] std::int64_t batch() const {
    return static_cast<std::int64_t>(problem_.requests.size());
  }
  [[nodiscard]] std::size_t num_pages() const {
    return static_cast<std::size_t>(batch() * columns_);
  }
  /// Pages of a request are not in order: the last comes first.
  [[nodiscard]] std::int32_t page(std::int64_t request, std::int64_t column) const {
    return static_cast<std::int32_t>((batch() - request) * columns_ - 1 - column);
  }

  [[nodiscard]] std::vector<std::int32_t> make_block_table() const {
    std::vector<std::int32_t> table;
    for (std::int64_t b = 0; b < batch(); ++b) {
      for (std::int64_t column = 0; column < columns_; ++column) table.push_back(page(b, column));
    }
    return table;
  }
  [[nodiscard]] std::vector<std::int32_t> make_seq_lens() const {
    std::vector<std::int32_t> lengths;
    for (const Request& request : problem_.requests) {
      lengths.push_back(static_cast<std::int32_t>(request.seq_len));
    }
    return lengths;
  }
  [[nodiscard]] std::vector<std::int32_t> make_cu_seqlens_q() const {
    std::vector<std::int32_t> sums{0};
    for (const Request& request : problem_.requests) {
      sums.push_back(sums.back() + static_cast<std::int32_t>(request.q_len));
    }
    return sums;
  }

  [[nodiscard]] hip_attn::KvPages<Element> pages() const {
    return hip_attn::kv_pages_nhd(k_.data(), v_.data(), static_cast<std::int64_t>(num_pages()),
                                  kPageSize, kKvHeads, kHeadDim);
  }

  /// With this project's append_kv.
  void fill_cache() {
    std::vector<std::int64_t> slots;
    for (std::int64_t b = 0; b < batch(); ++b) {
      for (std::int64_t at = 0; at < problem_.requests[static_cast<std::size_t>(b)].seq_len; ++at) {
        slots.push_back(page(b, at / kPageSize) * kPageSize + at % kPageSize);
      }
    }
    const DeviceArray<Element> k(elements(problem_.k));
    const DeviceArray<Element> v(elements(problem_.v));
    const DeviceArray<std::int64_t> slot_mapping(slots);
    const hip_attn::AppendKvArgs<Element> args{
        .k = {k.data(), {problem_.total_tokens, kKvHeads, kHeadDim}},
        .v = {v.data(), {problem_.total_tokens, kKvHeads, kHeadDim}},
        .slot_mapping = {slot_mapping.data(), {problem_.total_tokens}},
        .pages = pages(),
    };
    if (!succeeds("append_kv", own::append_kv(hip_attn::cuda_device(), args, nullptr)))
      std::exit(1);
    check(cudaDeviceSynchronize());
  }

  [[nodiscard]] hip_attn::Status call(const hip_attn::AttentionPlan& plan, const Args& args,
                                      hip_attn::Workspace workspace) const {
    return op_ == hip_attn::Operator::kDecode ? own::run_decode(plan, args, workspace, nullptr)
                                              : own::run_prefill(plan, args, workspace, nullptr);
  }

  [[nodiscard]] bool compare(const char* name, const hip_attn::HipConfig& config, Attends attends,
                             const Result& result) const {
    bool drops_some = false;
    for (const QueryBlock& block : query_blocks(problem_, op_, config.block_q)) {
      for (std::int64_t kv_head = 0; kv_head < kKvHeads; ++kv_head) {
        const Selection selection = Search(problem_, block, kv_head, op_).run(config);
        if (!is_selected(name, config, block, kv_head, selection, result)) return false;
        for (std::int64_t position = block.begin; position < block.end; ++position) {
          const auto keys = attended_keys(config, selection, position);
          const bool every_key = static_cast<std::int64_t>(keys.size()) == position + 1;
          if (attends == Attends::kEveryKey && !every_key) {
            std::printf("%s: the reference drops keys\n", name);
            return false;
          }
          drops_some |= !every_key;
          for (std::int64_t head = kv_head * kGroup; head < (kv_head + 1) * kGroup; ++head) {
            if (!is_attended(name, block, position, head, keys, result)) return false;
          }
        }
      }
    }
    if (attends == Attends::kSelection && !drops_some) {
      std::printf("%s: the reference drops nothing\n", name);
      return false;
    }
    return true;
  }

  [[nodiscard]] bool is_selected(const char* name, const hip_attn::HipConfig& config,
                                 const QueryBlock& block, std::int64_t kv_head,
                                 const Selection& expected, const Result& result) const {
    const std::int64_t request = block.request - problem_.requests.data();
    const std::int64_t row = op_ == hip_attn::Operator::kDecode
                                 ? request
                                 : hip_attn::selection_row(block.request->first_row, request,
                                                           block.number, config.block_q);
    const auto unit = static_cast<std::size_t>(row * kKvHeads + kv_head);
    const auto first = result.blocks.begin() + static_cast<std::ptrdiff_t>(unit) * result.width;
    const std::int32_t count = result.counts[unit];
    if (result.window_start[unit] == expected.window_start &&
        count == static_cast<std::int32_t>(expected.blocks.size()) &&
        std::equal(expected.blocks.begin(), expected.blocks.end(), first)) {
      return true;
    }
    std::printf("%s: request %d, positions from %d, KV head %d: %d blocks and a window from %d;\n",
                label(name).c_str(), static_cast<int>(request), static_cast<int>(block.begin),
                static_cast<int>(kv_head), count, result.window_start[unit]);
    std::printf("  they must be %d from %d, or others:", static_cast<int>(expected.blocks.size()),
                static_cast<int>(expected.window_start));
    for (const std::int32_t selected : expected.blocks) std::printf(" %d", selected);
    std::printf("\n");
    return false;
  }

  /// Probabilities and outputs are rounded to the element type, by 2^-8 each at most; twice that.
  [[nodiscard]] bool is_attended(const char* name, const QueryBlock& block, std::int64_t position,
                                 std::int64_t head, const std::vector<std::int64_t>& keys,
                                 const Result& result) const {
    const Attention expected = attend(problem_, block, position, head, keys);
    const auto row = static_cast<std::size_t>(block.row(position) * kQueryHeads + head);
    bool ok = std::abs(double{result.lse[row]} - expected.lse) <= 1e-4;
    for (std::size_t d = 0; d < kHeadDim && ok; ++d) {
      const double out = double{hip_attn::to_float(result.out[row * kHeadDim + d])};
      ok = std::abs(out - expected.out[d]) <= 0x1p-6 * expected.spread[d] + 1e-6;
    }
    if (!ok) {
      std::printf("%s: out and lse at position %d, head %d are not those of %d keys\n",
                  label(name).c_str(), static_cast<int>(position), static_cast<int>(head),
                  static_cast<int>(keys.size()));
    }
    return ok;
  }

  [[nodiscard]] std::string label(const char* name) const {
    return std::string(op_ == hip_attn::Operator::kDecode ? "decode" : "prefill") +
           (portable_ ? ", portable kernels, " : ", ") + name;
  }

  const Problem& problem_;
  hip_attn::Operator op_;
  bool portable_;
  std::int64_t columns_;
  DeviceArray<Element> q_;
  DeviceArray<Element> k_;
  DeviceArray<Element> v_;
  DeviceArray<std::int32_t> block_table_;
  DeviceArray<std::int32_t> seq_lens_;
  DeviceArray<std::int32_t> cu_seqlens_q_;
};

}  // namespace own
