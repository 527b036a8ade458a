// The code of docs/guide/interface.md: what stands between two comments of one name in brackets is
// shown there under that name, and docs_test.cpp compares the two.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "catch.hpp"
#include "hip_attn/hip_attn.hpp"
#include "support/docs_layer.hpp"

namespace {

using namespace hip_attn;
using test::bits_of;
using test::DocsLayer;
using test::DocsPagedLayer;

#define HIP_ATTN_SKIP_WITHOUT_BFLOAT16() \
  if (!test::documents_can_run()) HIP_ATTN_SKIP("this build lacks bfloat16")

TEST_CASE_METHOD(DocsLayer, "docs: a contiguous cache") {
  HIP_ATTN_SKIP_WITHOUT_BFLOAT16();
  take_rows({300, 17});
  const auto call = [&]() -> Status {
    // [contiguous]
    const AttentionShape shape{.batch = batch,
                               .total_q = total_q,
                               .max_seq_len = capacity,
                               .num_q_heads = num_q_heads,
                               .num_kv_heads = num_kv_heads,
                               .head_dim = head_dim};
    AttentionPlan plan;
    Status status = plan_prefill<bfloat16>(config, shape, plan);
    if (!status.ok()) return status;
    std::vector<std::byte> workspace(plan.workspace_bytes);

    AttentionArgs<bfloat16> args;
    args.q = {q.data(), {total_q, num_q_heads, head_dim}};
    args.kv = contiguous_kv(k.data(), v.data(), batch, capacity, num_kv_heads, head_dim);
    args.seq_lens = {seq_lens.data(), {batch}};
    args.cu_seqlens_q = {cu_seqlens_q.data(), {batch + 1}};
    args.out = {out.data(), {total_q, num_q_heads, head_dim}};
    return run_prefill(plan, args, workspace);
    // [contiguous]
  };
  require_ok(call());
  CHECK(bits_of(out) == expected(Operator::kPrefill, config));
}

TEST_CASE_METHOD(DocsPagedLayer, "docs: a paged cache, NHD and HND") {
  HIP_ATTN_SKIP_WITHOUT_BFLOAT16();
  take_rows({300, 17});
  const AttentionPlan plan = make_plan(Operator::kPrefill, config);
  std::vector<std::byte> workspace(plan.workspace_bytes);
  std::vector<bfloat16> k_pages(num_pages * page_size * kv_row);
  std::vector<bfloat16> v_pages(k_pages.size());
  AttentionArgs<bfloat16> args = make_args();
  SECTION("NHD") {
    fill_pages(
        kv_pages_nhd(k_pages.data(), v_pages.data(), num_pages, page_size, num_kv_heads, head_dim));
    // [paged-nhd]
    args.kv.pages =
        kv_pages_nhd(k_pages.data(), v_pages.data(), num_pages, page_size, num_kv_heads, head_dim);
    args.kv.block_table = TensorView<const std::int32_t, 2>(block_table.data(), {batch, max_pages});
    // [paged-nhd]
  }
  SECTION("HND") {
    fill_pages(
        kv_pages_hnd(k_pages.data(), v_pages.data(), num_pages, page_size, num_kv_heads, head_dim));
    args.kv.block_table = TensorView<const std::int32_t, 2>(block_table.data(), {batch, max_pages});
    // [paged-hnd]
    args.kv.pages =
        kv_pages_hnd(k_pages.data(), v_pages.data(), num_pages, page_size, num_kv_heads, head_dim);
    // [paged-hnd]
  }
  require_ok(run_prefill(plan, args, workspace));
  CHECK(bits_of(out) == expected(Operator::kPrefill, config));
}

TEST_CASE_METHOD(DocsPagedLayer, "docs: new keys and values go into the cache by slot") {
  HIP_ATTN_SKIP_WITHOUT_BFLOAT16();
  std::vector<bfloat16> k_pages(num_pages * page_size * kv_row);
  std::vector<bfloat16> v_pages(k_pages.size());
  const std::int64_t num_tokens = seq_lens[0];  // all of request 0
  const bfloat16* new_k = k.data();
  const bfloat16* new_v = v.data();
  const auto call = [&]() -> Status {
    // [append]
    std::vector<std::int64_t> slots(num_tokens);
    for (std::int64_t t = 0; t < num_tokens; ++t) {
      slots[t] = block_table[t / page_size] * page_size + t % page_size;
    }
    AppendKvArgs<bfloat16> args;
    args.k = {new_k, {num_tokens, num_kv_heads, head_dim}};
    args.v = {new_v, {num_tokens, num_kv_heads, head_dim}};
    args.slot_mapping = {slots.data(), {num_tokens}};
    args.pages =
        kv_pages_nhd(k_pages.data(), v_pages.data(), num_pages, page_size, num_kv_heads, head_dim);
    return append_kv(kCpu, args);
    // [append]
  };
  require_ok(call());
  const auto row = [this](const std::vector<bfloat16>& rows, std::int64_t n) {
    return bits_of({rows.begin() + n * kv_row, rows.begin() + (n + 1) * kv_row});
  };
  for (const std::int64_t t : {0, 17, 639}) {
    const std::int64_t slot = block_table[t / page_size] * page_size + t % page_size;
    CHECK(row(k_pages, slot) == row(k, t));
    CHECK(row(v_pages, slot) == row(v, t));
  }
}

TEST_CASE_METHOD(DocsLayer, "docs: a prompt in pieces gives the output of the prompt whole") {
  HIP_ATTN_SKIP_WITHOUT_BFLOAT16();
  take_rows({640, 0});
  const std::int64_t prompt_len = total_q;
  const std::int64_t chunk = 8 * config.block_q;
  total_q = chunk;
  const AttentionPlan plan = make_plan(Operator::kPrefill, config);
  total_q = prompt_len;
  std::vector<std::byte> workspace(plan.workspace_bytes);
  AttentionArgs<bfloat16> args = make_args();
  const auto prefill = [&]() -> Status {
    // [chunks]
    for (std::int64_t done = 0; done < prompt_len; done += chunk) {
      const std::int64_t rows = std::min(chunk, prompt_len - done);
      const auto seq_len = static_cast<std::int32_t>(done + rows);
      const std::array<std::int32_t, 2> row_starts{0, static_cast<std::int32_t>(rows)};
      args.seq_lens = {&seq_len, {1}};
      args.cu_seqlens_q = {row_starts.data(), {2}};
      args.q = {&q[done * num_q_heads * head_dim], {rows, num_q_heads, head_dim}};
      args.out = {&out[done * num_q_heads * head_dim], {rows, num_q_heads, head_dim}};
      Status status = run_prefill(plan, args, workspace);
      if (!status.ok()) return status;
    }
    // [chunks]
    return {};
  };
  require_ok(prefill());
  CHECK(bits_of(out) == expected(Operator::kPrefill, config));
}

TEST_CASE_METHOD(DocsLayer, "docs: decode under a refresh schedule") {
  HIP_ATTN_SKIP_WITHOUT_BFLOAT16();
  const std::vector<std::int32_t> final_lens = seq_lens;
  const std::int32_t num_steps = 9;
  std::vector<std::int64_t> step{0, 3};
  take_rows({1, 1});
  const AttentionPlan plan = make_plan(Operator::kDecode, config);
  std::vector<std::byte> workspace(plan.workspace_bytes);
  AttentionArgs<bfloat16> args;
  std::vector<bool> first_stage_ran;
  const auto append_tokens = [&](std::int32_t now) {
    for (std::int64_t b = 0; b < batch; ++b) seq_lens[b] = final_lens[b] - num_steps + 1 + now;
    take_rows({1, 1});
    const auto cache = args.cache;
    args = make_args();
    args.cache = cache;
    args.counters = TensorView<std::int64_t, 1>(reads.data(), {config.num_stages() + 2});
  };
  const auto decode = [&]() -> Status {
    // [refresh-cache]
    std::vector<std::byte> memory(batch * plan.selection_cache_slot_bytes);  // zeroed, once
    std::vector<std::int32_t> refresh_from(batch);
    SelectionCache cache;
    cache.data = memory.data();
    cache.num_slots = batch;
    cache.refresh_from = {refresh_from.data(), {batch}};
    args.cache = cache;
    // [refresh-cache]
    for (std::int32_t now = 0; now < num_steps; ++now) {
      append_tokens(now);
      // [refresh-step]
      for (std::int64_t b = 0; b < batch; ++b) refresh_from[b] = refresh_from_at(config, step[b]++);
      Status status = run_decode(plan, args, workspace);
      // [refresh-step]
      if (!status.ok()) return status;
      first_stage_ran.push_back(reads[0] > 0);
    }
    return {};
  };
  require_ok(decode());
  // Every 4 steps of each request, and where request 1 finds its entry empty.
  CHECK(first_stage_ran ==
        std::vector<bool>{true, true, false, false, true, true, false, false, true});
}

TEST_CASE_METHOD(DocsLayer, "docs: speculative decoding verifies several rows and drops some") {
  HIP_ATTN_SKIP_WITHOUT_BFLOAT16();
  const std::vector<std::int32_t> before = {600, 390};
  const std::vector<std::int32_t> drafted = {5, 3};
  const std::vector<std::int32_t> accepted = {2, 3};
  seq_lens = before;
  cu_seqlens_q = {0, 0, 0};
  // [speculative-lengths]
  for (std::int64_t b = 0; b < batch; ++b) {
    seq_lens[b] += drafted[b];
    cu_seqlens_q[b + 1] = cu_seqlens_q[b] + drafted[b];
  }
  // [speculative-lengths]
  const std::vector<std::int32_t> rows = cu_seqlens_q;
  take_rows(drafted);
  CHECK(cu_seqlens_q == rows);
  const AttentionPlan plan = make_plan(Operator::kDecode, config);
  std::vector<std::byte> workspace(plan.workspace_bytes);
  const AttentionArgs<bfloat16> args = make_args();
  require_ok(run_decode(plan, args, workspace));
  CHECK(std::ranges::none_of(out, [](bfloat16 x) { return std::isnan(to_float(x)); }));
  // [speculative-accept]
  for (std::int64_t b = 0; b < batch; ++b) seq_lens[b] -= drafted[b] - accepted[b];
  // [speculative-accept]
  CHECK(seq_lens == std::vector<std::int32_t>{602, 393});
}

TEST_CASE_METHOD(DocsLayer, "docs: a selection comes out and goes back in") {
  HIP_ATTN_SKIP_WITHOUT_BFLOAT16();
  take_rows({300, 17});
  const AttentionPlan plan = make_plan(Operator::kPrefill, config);
  std::vector<std::byte> workspace(plan.workspace_bytes);
  AttentionArgs<bfloat16> args = make_args();
  args.counters = TensorView<std::int64_t, 1>(reads.data(), {config.num_stages() + 2});
  // [selection-out]
  const std::int64_t rows = plan.selection_rows;
  std::vector<std::int32_t> blocks(rows * num_kv_heads * plan.max_selected_blocks);
  std::vector<std::int32_t> counts(rows * num_kv_heads);
  std::vector<std::int32_t> window_start(rows * num_kv_heads);
  BlockSelection selection;
  selection.blocks = {blocks.data(), {rows, num_kv_heads, plan.max_selected_blocks}};
  selection.counts = {counts.data(), {rows, num_kv_heads}};
  selection.window_start = {window_start.data(), {rows, num_kv_heads}};
  args.selection_out = selection;
  // [selection-out]
  require_ok(run_prefill(plan, args, workspace));
  const std::vector<std::uint16_t> with_search = bits_of(out);
  CHECK(reads[0] > 0);

  const std::int64_t b = 0;
  const std::int64_t n = 5;
  const std::int64_t kv_head = 1;
  // [selection-read]
  const std::int64_t row = selection_row(cu_seqlens_q[b], b, n, config.block_q);
  std::vector<std::int64_t> first_keys;
  for (std::int64_t i = 0; i < selection.counts(row, kv_head); ++i) {
    first_keys.push_back(selection.blocks(row, kv_head, i) * std::int64_t{config.block_k()});
  }
  // [selection-read]
  CHECK(static_cast<std::int64_t>(first_keys.size()) ==
        config.stages.back().keep / config.block_k());
  CHECK(std::ranges::is_sorted(first_keys));
  CHECK(first_keys.front() >= config.sink);
  CHECK(first_keys.back() < selection.window_start(row, kv_head));

  std::ranges::fill(reads, 0);
  // [selection-in]
  args.selection_out.reset();
  args.selection = selection;
  Status status = run_prefill(plan, args, workspace);
  // [selection-in]
  require_ok(status);
  CHECK(bits_of(out) == with_search);
  CHECK(reads[0] + reads[1] == 0);
}

TEST_CASE_METHOD(DocsLayer, "docs: the indices of a trained indexer") {
  HIP_ATTN_SKIP_WITHOUT_BFLOAT16();
  take_rows({5, 3});
  const std::int64_t top_k = 4;
  std::vector<std::int32_t> indices;
  for (std::int64_t row = 0; row < total_q; ++row) {
    for (const std::int32_t block : {5, -1, 0, 5}) indices.push_back(block);
  }
  // [index-config]
  const HipConfig by_index{
      .window = 1, .block_q = 1, .stages = {{.chunk_size = 64, .keep = 64 * top_k}}};
  // [index-config]
  const AttentionPlan plan = make_plan(Operator::kPrefill, by_index);
  std::vector<std::byte> workspace(plan.workspace_bytes);
  AttentionArgs<bfloat16> args = make_args();
  const auto call = [&]() -> Status {
    // [index-selection]
    const std::int64_t rows = plan.selection_rows;
    std::vector<std::int32_t> blocks(rows * num_kv_heads * top_k);
    std::vector<std::int32_t> counts(rows * num_kv_heads);
    std::vector<std::int32_t> window_start(rows * num_kv_heads);
    IndexSelectionArgs index_args;
    index_args.indices = {indices.data(), {total_q, 1, top_k}};  // for all KV heads
    index_args.seq_lens = args.seq_lens;
    index_args.cu_seqlens_q = args.cu_seqlens_q;
    index_args.selection = {{blocks.data(), {rows, num_kv_heads, top_k}},
                            {counts.data(), {rows, num_kv_heads}},
                            {window_start.data(), {rows, num_kv_heads}}};
    Status status = make_index_selection(plan, index_args);
    if (!status.ok()) return status;
    args.selection = index_args.selection;
    return run_prefill(plan, args, workspace);
    // [index-selection]
  };
  require_ok(call());
  // Keys 0 to 63 and 320 to 383, and nothing else.
  for (std::int64_t key = 0; key < capacity; ++key) {
    if (key < 64 || (key >= 320 && key < 384)) continue;
    for (std::int64_t b = 0; b < batch; ++b) {
      std::fill_n(&k[(b * capacity + key) * kv_row], kv_row, from_float<bfloat16>(test::kNaN));
      std::fill_n(&v[(b * capacity + key) * kv_row], kv_row, from_float<bfloat16>(test::kNaN));
    }
  }
  const std::vector<std::uint16_t> before = bits_of(out);
  require_ok(call());
  CHECK(bits_of(out) == before);
  CHECK(std::ranges::none_of(out, [](bfloat16 x) { return std::isnan(to_float(x)); }));
}

TEST_CASE_METHOD(DocsLayer, "docs: sink logits") {
  HIP_ATTN_SKIP_WITHOUT_BFLOAT16();
  take_rows({1, 1});
  const AttentionPlan plan = make_plan(Operator::kDecode, presets::dense());
  std::vector<std::byte> workspace(plan.workspace_bytes);
  AttentionArgs<bfloat16> args = make_args();
  const std::vector<float> sink_logits{0.f, -100.f, 100.f, 1.f};
  std::vector<float> lse(total_q * num_q_heads);
  const auto call = [&]() -> Status {
    // [sinks]
    args.lse = TensorView<float, 2>(lse.data(), {total_q, num_q_heads});
    Status status = run_decode(plan, args, workspace);
    if (!status.ok()) return status;
    return add_sink_logits<bfloat16>(kCpu,
                                     {{sink_logits.data(), {num_q_heads}}, args.out, *args.lse});
    // [sinks]
  };
  require_ok(call());
  const std::vector<std::uint16_t> without = expected(Operator::kDecode, presets::dense());
  for (std::int64_t i = 0; i < head_dim; ++i) {
    CHECK(std::abs(to_float(out[i])) <= std::abs(to_float(bfloat16{without[i]})));
    CHECK(out[head_dim + i].bits == without[head_dim + i]);
    CHECK(std::abs(to_float(out[2 * head_dim + i])) < 1e-30f);
  }
}

TEST_CASE_METHOD(DocsLayer, "docs: shards of a sequence merge into the whole") {
  HIP_ATTN_SKIP_WITHOUT_BFLOAT16();
  seq_lens[1] = 640;
  take_rows({1, 1});
  const HipConfig dense = presets::dense();
  const AttentionPlan plan = make_plan(Operator::kDecode, dense);
  std::vector<std::byte> workspace(plan.workspace_bytes);
  AttentionArgs<bfloat16> args = make_args();
  const auto run = [&]() -> Status {
    // [merge]
    const std::int64_t num_shards = 4;
    const std::int64_t shard_len = capacity / num_shards;
    const std::vector<std::int32_t> shard_lens(batch, static_cast<std::int32_t>(shard_len));
    const std::int64_t row_elements = num_q_heads * head_dim;
    std::vector<bfloat16> partial_out(num_shards * batch * row_elements);
    std::vector<float> partial_lse(num_shards * batch * num_q_heads);
    for (std::int64_t shard = 0; shard < num_shards; ++shard) {  // each where its keys are
      AttentionArgs<bfloat16> part = args;
      for (TensorView<const bfloat16, 4>* view : {&part.kv.pages.k, &part.kv.pages.v}) {
        view->data += shard * shard_len * view->strides[1];
        view->sizes[1] = shard_len;
      }
      part.seq_lens = {shard_lens.data(), {batch}};
      part.out = {&partial_out[shard * batch * row_elements], {batch, num_q_heads, head_dim}};
      part.lse =
          TensorView<float, 2>(&partial_lse[shard * batch * num_q_heads], {batch, num_q_heads});
      Status status = run_decode(plan, part, workspace);
      if (!status.ok()) return status;
    }
    MergeStatesArgs<bfloat16> merge;
    merge.partial_out = {partial_out.data(), {num_shards, batch, num_q_heads, head_dim}};
    merge.partial_lse = {partial_lse.data(), {num_shards, batch, num_q_heads}};
    merge.out = {out.data(), {batch, num_q_heads, head_dim}};
    return merge_states(kCpu, merge);
    // [merge]
  };
  require_ok(run());
  const std::vector<std::uint16_t> whole = expected(Operator::kDecode, dense);
  for (std::size_t i = 0; i < whole.size(); ++i) {
    // Partial outputs are rounded to 8 bits, then the sum is.
    CHECK(to_float(out[i]) ==
          Catch::Approx(to_float(bfloat16{whole[i]})).epsilon(1. / 64).margin(1. / 256));
  }
}

// Landmarks of 16 keys, which is also a page of DocsPagedLayer, and every key of what is left.
HipConfig landmark_config() {
  return {.sink = 16,
          .window = 32,
          .block_q = 16,
          .stages = {{.chunk_size = 16,
                      .keep = 192,
                      .query_stride = 4,
                      .rule = ScanRule::kLandmark,
                      .reduction = Reduction::kSoftmaxSum},
                     {.chunk_size = 8,
                      .keep = 64,
                      .query_stride = 4,
                      .rule = ScanRule::kEveryKey,
                      .reduction = Reduction::kSoftmaxSum}},
          .refresh_interval = {2, 1}};
}

TEST_CASE_METHOD(DocsLayer, "docs: landmarks kept through prefill and decode") {
  HIP_ATTN_SKIP_WITHOUT_BFLOAT16();
  const std::vector<std::int32_t> lengths = seq_lens;  // in the end
  seq_lens = {601, 396};
  std::vector<std::int32_t> kept_lens(batch, 0);
  take_rows(seq_lens);
  const AttentionPlan plan = make_plan(Operator::kPrefill, landmark_config());
  std::vector<std::byte> workspace(plan.workspace_bytes);
  AttentionArgs<bfloat16> args = make_args();

  // [landmarks]
  Landmarks<bfloat16> landmarks;
  std::vector<std::vector<bfloat16>> landmark_memory;
  for (const std::int64_t chunk_size : landmark_chunk_sizes(plan.config)) {
    const std::int64_t per_request = capacity / chunk_size;
    landmark_memory.emplace_back(batch * per_request * num_kv_heads * 2 * head_dim);
    landmarks.levels[landmarks.num_levels++] = landmark_level_by_head(
        landmark_memory.back().data(), chunk_size, batch, per_request, num_kv_heads, head_dim);
  }
  // [landmarks]
  const auto make_landmarks = [&]() -> Status {
    // [landmarks-update]
    UpdateLandmarksArgs<bfloat16> update;
    update.kv = args.kv;
    update.from = {kept_lens.data(), {batch}};  // keys before these rows were appended
    update.to = args.seq_lens;
    update.landmarks = landmarks;
    Status status = update_landmarks(kCpu, update);
    if (!status.ok()) return status;
    args.landmarks = landmarks;
    // [landmarks-update]
    return status;
  };
  require_ok(make_landmarks());
  args.counters = TensorView<std::int64_t, 1>(reads.data(), {4});
  require_ok(run_prefill(plan, args, workspace));
  CHECK((reads[0] > 0 && reads[1] > 0));
  const std::vector<std::uint16_t> prompt = bits_of(out);

  // Every step gives what it gives over landmarks that are made at once, of all keys.
  while (seq_lens != lengths) {
    kept_lens = seq_lens;
    for (std::int64_t b = 0; b < batch; ++b) seq_lens[b] += seq_lens[b] < lengths[b];
    take_rows({1, 1});
    const AttentionPlan decode = make_plan(Operator::kDecode, landmark_config());
    std::vector<std::byte> decode_workspace(decode.workspace_bytes);
    args = make_args();
    require_ok(make_landmarks());
    require_ok(run_decode(decode, args, decode_workspace));
    const std::vector<std::uint16_t> with_kept = bits_of(out);
    for (std::vector<bfloat16>& level : landmark_memory) {
      std::ranges::fill(level, from_float<bfloat16>(test::kNaN));
    }
    kept_lens.assign(batch, 0);
    require_ok(make_landmarks());
    require_ok(run_decode(decode, args, decode_workspace));
    CHECK(bits_of(out) == with_kept);
  }

  // The prompt again, over all landmarks: those behind a row are not looked at.
  seq_lens = {601, 396};
  take_rows(seq_lens);
  args = make_args();
  args.landmarks = landmarks;
  require_ok(run_prefill(plan, args, workspace));
  CHECK(bits_of(out) == prompt);
}

TEST_CASE_METHOD(DocsPagedLayer, "docs: landmarks are appended with keys, by one table for both") {
  HIP_ATTN_SKIP_WITHOUT_BFLOAT16();
  const HipConfig with_landmarks = landmark_config();
  const std::int64_t chunk_size = 16;
  std::vector<bfloat16> k_pages(num_pages * page_size * kv_row);
  std::vector<bfloat16> v_pages(k_pages.size());
  std::vector<bfloat16> landmark_pages(num_pages * page_size / chunk_size * num_kv_heads * 2 *
                                       head_dim);
  const KvPages<bfloat16> pages =
      kv_pages_nhd(k_pages.data(), v_pages.data(), num_pages, page_size, num_kv_heads, head_dim);
  const TensorView<const std::int32_t, 2> table(block_table.data(), {batch, max_pages});
  Landmarks<bfloat16> landmarks;
  // [landmarks-one-table]
  LandmarkLevel<bfloat16>& level = landmarks.levels[landmarks.num_levels++];
  level = landmark_level_by_head(landmark_pages.data(), chunk_size, num_pages,
                                 page_size / chunk_size, num_kv_heads, head_dim);
  level.block_table = table;
  // [landmarks-one-table]

  // The keys of both requests come in three calls of different lengths.
  const std::vector<std::int32_t> final_lens = seq_lens;
  std::vector<std::int32_t> before(batch, 0);
  for (const std::int32_t part : {1, 2, 3}) {
    std::vector<std::int32_t> lens;
    std::vector<std::int32_t> row_starts{0};
    std::vector<bfloat16> new_k;
    std::vector<bfloat16> new_v;
    std::vector<std::int64_t> slots;
    for (std::int64_t b = 0; b < batch; ++b) {
      lens.push_back(final_lens[b] * part / 3);
      row_starts.push_back(row_starts.back() + lens[b] - before[b]);
      for (std::int64_t t = before[b]; t < lens[b]; ++t) {
        const std::int64_t at = (b * capacity + t) * kv_row;
        new_k.insert(new_k.end(), k.begin() + at, k.begin() + at + kv_row);
        new_v.insert(new_v.end(), v.begin() + at, v.begin() + at + kv_row);
        slots.push_back(table(b, t / page_size) * page_size + t % page_size);
      }
    }
    const std::int64_t num_tokens = row_starts.back();
    AppendKvArgs<bfloat16> args;
    args.k = {new_k.data(), {num_tokens, num_kv_heads, head_dim}};
    args.v = {new_v.data(), {num_tokens, num_kv_heads, head_dim}};
    args.slot_mapping = {slots.data(), {num_tokens}};
    args.pages = pages;
    // [landmarks-append]
    AppendLandmarks<bfloat16> append;
    append.landmarks = landmarks;
    append.block_table = table;                // of the keys
    append.seq_lens = {lens.data(), {batch}};  // these rows included
    append.cu_seqlens = {row_starts.data(), {batch + 1}};
    args.landmarks = append;
    Status status = append_kv(kCpu, args);
    // [landmarks-append]
    require_ok(status);
    before = lens;
  }

  // The output over landmarks made by update_landmarks, of a contiguous cache.
  take_rows({300, 17});
  const AttentionPlan plan = make_plan(Operator::kPrefill, with_landmarks);
  std::vector<std::byte> workspace(plan.workspace_bytes);
  AttentionArgs<bfloat16> args = make_args();
  std::vector<bfloat16> contiguous(batch * capacity / chunk_size * num_kv_heads * 2 * head_dim);
  const std::vector<std::int32_t> zeros(batch, 0);
  UpdateLandmarksArgs<bfloat16> update;
  update.kv = args.kv;
  update.from = {zeros.data(), {batch}};
  update.to = args.seq_lens;
  update.landmarks.num_levels = 1;
  update.landmarks.levels[0] = landmark_level_by_head(
      contiguous.data(), chunk_size, batch, capacity / chunk_size, num_kv_heads, head_dim);
  require_ok(update_landmarks(kCpu, update));
  args.landmarks = update.landmarks;
  require_ok(run_prefill(plan, args, workspace));
  const std::vector<std::uint16_t> expected_out = bits_of(out);

  std::ranges::fill(out, from_float<bfloat16>(test::kNaN));
  args.kv = {pages, table};
  args.landmarks = landmarks;
  require_ok(run_prefill(plan, args, workspace));
  CHECK(bits_of(out) == expected_out);
}

TEST_CASE_METHOD(DocsLayer, "docs: counters say what a call read") {
  HIP_ATTN_SKIP_WITHOUT_BFLOAT16();
  take_rows({300, 17});
  const AttentionPlan plan = make_plan(Operator::kPrefill, config);
  std::vector<std::byte> workspace(plan.workspace_bytes);
  AttentionArgs<bfloat16> args = make_args();
  // [counters]
  const int stages = plan.config.num_stages();
  std::vector<std::int64_t> counters(stages + 2);
  args.counters = TensorView<std::int64_t, 1>(counters.data(), {stages + 2});
  Status status = run_prefill(plan, args, workspace);
  const auto keys_scored =
      std::accumulate(counters.begin(), counters.begin() + stages, std::int64_t{0});
  const double scored_per_row =
      static_cast<double>(keys_scored) / static_cast<double>(total_q * num_kv_heads);
  const double attended_per_row =
      static_cast<double>(counters[stages + 1]) / static_cast<double>(total_q * num_kv_heads);
  // [counters]
  require_ok(status);
  CHECK(scored_per_row > 0);
  CHECK(attended_per_row >= static_cast<double>(config.window));
  // sink, the last stage's keep, a window that a row may see block_k - 1 keys more of, and the rows
  // of its block before it.
  CHECK(attended_per_row <= static_cast<double>(config.sink + config.stages.back().keep +
                                                config.window + config.block_k() + config.block_q));
}

TEST_CASE_METHOD(DocsLayer, "docs: fewer threads give the same bits") {
  HIP_ATTN_SKIP_WITHOUT_BFLOAT16();
  take_rows({300, 17});
  AttentionShape shape = DocsLayer::shape();
  AttentionPlan plan;
  // [threads]
  shape.num_threads = 4;
  Status status = plan_prefill<bfloat16>(config, shape, plan);
  // [threads]
  require_ok(status);
  std::vector<std::byte> workspace(plan.workspace_bytes);
  const AttentionArgs<bfloat16> args = make_args();
  require_ok(run_prefill(plan, args, workspace));
  CHECK(bits_of(out) == expected(Operator::kPrefill, config));
  plan.num_threads = 1;
  require_ok(run_prefill(plan, args, workspace));
  CHECK(bits_of(out) == expected(Operator::kPrefill, config));
}

TEST_CASE_METHOD(DocsLayer, "docs: an engine's own threads run a call in parts") {
  HIP_ATTN_SKIP_WITHOUT_BFLOAT16();
  take_rows({1, 1});
  AttentionShape shape = DocsLayer::shape();
  shape.num_threads = 3;
  AttentionPlan plan;
  require_ok(plan_decode<bfloat16>(config, shape, plan));
  std::vector<std::byte> workspace(plan.workspace_bytes);
  const AttentionArgs<bfloat16> args = make_args();
  const auto engine_threads = [](int count, const std::function<void(int)>& work) {
    std::vector<std::thread> threads;
    for (int i = 0; i < count; ++i) threads.emplace_back(work, i);
    for (std::thread& thread : threads) thread.join();
  };
  std::vector<Status> status(3);
  // [thread-team]
  ThreadTeam team(plan.num_threads);  // once: it serves any number of calls, one after another
  engine_threads(team.size(),
                 [&](int part) { status[part] = run_decode(plan, args, workspace, team, part); });
  // [thread-team]
  for (const Status& each : status) require_ok(each);
  CHECK(bits_of(out) == expected(Operator::kDecode, config));
}

TEST_CASE("docs: an authors' JSON configures every layer") {
  const std::string text = R"({"using_extend": false, "dense_layers": [0, 1],
                               "layers": [{"stages": []}, {"second_stage_k": 4096}]})";
  const auto report = [](const std::string& message) { FAIL(message); };
  const auto parse = [&](std::int32_t layer, HipConfig& out) {
    // [parse-model-config]
    hip_attn::ModelConfig model;
    if (hip_attn::Status status = hip_attn::parse_model_config(text, model); !status.ok())
      return report(status.message());
    const hip_attn::HipConfig& config = model.decode(layer);  // or model.prefill(layer)
    // [parse-model-config]
    out = config;
  };
  HipConfig dense;
  HipConfig sparse;
  parse(1, dense);
  parse(2, sparse);
  CHECK(dense.is_dense());
  CHECK(sparse.stages.back().keep == 4096);
}

TEST_CASE("docs: a configuration of one's own, and what an error looks like") {
  // [config]
  HipConfig config = presets::infinite_hip();
  config.sink = 64;
  config.window = 512;
  config.stages = {{.chunk_size = 64, .keep = 8192, .query_stride = 4},
                   {.chunk_size = 16, .keep = 1024, .query_stride = 1}};
  config.refresh_interval = {16, 8};
  // [config]
  CHECK(validate(config).ok());
  // [error]
  config.sink = 100;
  const Status status = validate(config);
  // [error]
  CHECK(status.code() == StatusCode::kInvalidConfig);
  CHECK(std::string(to_string(status.code())) == "InvalidConfig");
  CHECK(status.message() ==
        "config.sink is 100; it must be a multiple of block_k, the last stage's chunk_size (16)");
}

}  // namespace
