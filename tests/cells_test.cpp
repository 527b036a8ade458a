// Requests of cells: what every row sees is what its position admits. docs_ggml_test.cpp runs
// attention over them.
#include "hip_attn/cells.hpp"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "hip_attn/c/hip_attn.h"
#include "support/spoilt_call.hpp"
#include "support/through_c.hpp"
#include "support/values.hpp"

namespace hip_attn {
namespace {

using namespace test;
using Ints = std::vector<std::int32_t>;

/// The lists of a batch, which holds spans.
struct Lists {
  Ints key_sequences, key_pages, row_sequences;
  std::vector<std::int64_t> key_positions, row_positions, row_first;
  std::int64_t window = 0;
  bool keep_order = false;
  HipConfig config = presets::infinite_hip();
  bool has_config = true;

  void add_key(std::int32_t sequence, std::int64_t position, std::int32_t page) {
    key_sequences.push_back(sequence);
    key_positions.push_back(position);
    key_pages.push_back(page);
  }
  void add_row(std::int32_t sequence, std::int64_t position) {
    row_sequences.push_back(sequence);
    row_positions.push_back(position);
  }
  [[nodiscard]] CellBatch batch() const {
    return {key_sequences, key_positions, key_pages,
            row_sequences, row_positions, row_first,
            window,        keep_order,    has_config ? &config : nullptr};
  }
};

Status make_through_c(const Lists& lists, CellRequests& requests) {
  HipAttnCells* cells = nullptr;
  REQUIRE(hip_attn_cells_create(&cells, nullptr, 0) == HIP_ATTN_OK);
  const HipAttnConfig config{lists.config, {}};
  HipAttnCellBatch batch{};
  batch.struct_size = sizeof(batch);
  batch.num_keys = std::ssize(lists.key_pages);
  batch.key_sequences = lists.key_sequences.data();
  batch.key_positions = lists.key_positions.data();
  batch.key_pages = lists.key_pages.data();
  batch.num_rows = std::ssize(lists.row_sequences);
  batch.row_sequences = lists.row_sequences.data();
  batch.row_positions = lists.row_positions.data();
  batch.row_first = lists.row_first.empty() ? nullptr : lists.row_first.data();
  batch.window = lists.window;
  batch.keep_order = lists.keep_order;
  batch.config = lists.has_config ? &config : nullptr;
  HipAttnCellRequests made{};
  made.struct_size = sizeof(made);
  const Status status = status_of_c([&](char* message, std::size_t capacity) {
    return hip_attn_cells_requests(cells, &batch, &made, message, capacity);
  });
  const auto read = [](const DLTensor* tensor) {
    if (tensor == nullptr) return Ints{};
    std::int64_t size = 1;
    for (int i = 0; i < tensor->ndim; ++i) size *= tensor->shape[i];
    const auto* data = static_cast<const std::int32_t*>(tensor->data);
    return Ints(data, data + size);
  };
  if (status.ok()) {
    requests.seq_lens = read(made.seq_lens);
    requests.cu_seqlens_q = read(made.cu_seqlens_q);
    requests.block_table = read(made.block_table);
    requests.max_seq_len = made.block_table->shape[1];
    requests.rows = read(made.rows);
    requests.sequences = read(made.sequences);
    requests.refresh_from = read(made.refresh_from);
    requests.in_order = made.in_order != 0;
    requests.decode = made.decode != 0;
  }
  hip_attn_cells_destroy(cells);
  return status;
}

/// From C++, after a look that C says the same.
CellRequests make(const Lists& lists) {
  CellRequests requests;
  const Status status = make_cell_requests(lists.batch(), requests);
  INFO(status.message());
  REQUIRE(status.ok());
  CellRequests c;
  check_same_status(status, make_through_c(lists, c));
  CHECK(c.seq_lens == requests.seq_lens);
  CHECK(c.cu_seqlens_q == requests.cu_seqlens_q);
  CHECK(c.block_table == requests.block_table);
  CHECK(c.max_seq_len == requests.max_seq_len);
  CHECK(c.rows == requests.rows);
  CHECK(c.sequences == requests.sequences);
  CHECK(c.refresh_from == requests.refresh_from);
  CHECK(c.in_order == requests.in_order);
  CHECK(c.decode == requests.decode);
  return requests;
}

/// The pages that each row of the batch sees, in order, by the operators' rule: row i of a request
/// stands at seq_len - q_len + i, and attends to `window` keys where that is not 0.
std::vector<Ints> seen_by_rows(const CellRequests& requests, std::int64_t window) {
  std::vector<Ints> seen(requests.rows.size());
  for (std::size_t b = 0; b < requests.seq_lens.size(); ++b) {
    const std::int64_t first_row = requests.cu_seqlens_q[b];
    const std::int64_t rows = requests.cu_seqlens_q[b + 1] - first_row;
    if (requests.seq_lens[b] == 0) continue;
    REQUIRE(rows <= requests.seq_lens[b]);
    for (std::int64_t i = 0; i < rows; ++i) {
      const std::int64_t end = requests.seq_lens[b] - rows + i + 1;
      const std::int64_t first = window > 0 ? std::max<std::int64_t>(0, end - window) : 0;
      const auto table = requests.block_table.begin() + b * requests.max_seq_len;
      seen[requests.rows[first_row + i]] = Ints(table + first, table + end);
    }
  }
  return seen;
}

std::vector<Ints> admitted(const Lists& lists) {
  std::vector<Ints> seen;
  for (std::size_t row = 0; row < lists.row_sequences.size(); ++row) {
    std::vector<std::pair<std::int64_t, std::int32_t>> keys;
    for (std::size_t i = 0; i < lists.key_pages.size(); ++i) {
      const std::int64_t position = lists.key_positions[i];
      if (lists.key_sequences[i] != lists.row_sequences[row]) continue;
      if (position > lists.row_positions[row]) continue;
      if (!lists.row_first.empty() && position < lists.row_first[row]) continue;
      keys.emplace_back(position, lists.key_pages[i]);
    }
    std::ranges::sort(keys);
    Ints& pages = seen.emplace_back();
    for (const auto& key : keys) pages.push_back(key.second);
  }
  return seen;
}

TEST_CASE("every row sees the cells that its position admits, wherever they lie") {
  const bool keep_order = GENERATE(false, true);
  const std::int64_t window = GENERATE(0, 5);
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    CAPTURE(keep_order, window, seed);
    Choices choices(seed);
    Lists lists;
    lists.keep_order = keep_order;
    lists.window = window;
    // Some cells are empty, some have several sequences, and positions have holes and are in no
    // order; a window holds no two keys of one position.
    std::vector<std::vector<std::int64_t>> free(3);
    for (auto& positions : free) {
      positions.resize(40);
      std::iota(positions.begin(), positions.end(), 0);
      for (std::size_t i = positions.size() - 1; i > 0; --i) {
        std::swap(positions[i], positions[choices.between(0, static_cast<std::int64_t>(i))]);
      }
    }
    for (std::int32_t page = 0; page < 30; ++page) {
      for (std::int32_t sequence = 0; sequence < 3; ++sequence) {
        if (choices.one_in(3)) continue;
        lists.add_key(sequence, free[sequence].back(), page);
        free[sequence].pop_back();
      }
    }
    const std::int64_t rows = choices.between(1, 12);
    std::int64_t next[3] = {choices.between(0, 39), choices.between(0, 39), choices.between(0, 39)};
    for (std::int64_t i = 0; i < rows; ++i) {
      const auto sequence = static_cast<std::int32_t>(choices.between(0, 2));
      lists.add_row(sequence, next[sequence]++);
      if (window > 0) lists.row_first.push_back(lists.row_positions.back() - window + 1);
    }
    const CellRequests requests = make(lists);
    CHECK(seen_by_rows(requests, window) == admitted(lists));
    if (keep_order) CHECK(requests.in_order);
  }
}

TEST_CASE("a batch that is padded on the left begins with its first real token") {
  Lists lists;
  // [2, 6] tokens of which the first 2 and 4 are padding: pages b * 6 + t.
  const std::int32_t padding[] = {2, 4};
  for (std::int32_t b = 0; b < 2; ++b) {
    for (std::int32_t t = padding[b]; t < 6; ++t) lists.add_key(b, t, b * 6 + t);
    lists.add_row(b, 5);
  }
  CellRequests requests = make(lists);
  CHECK(requests.seq_lens == Ints{4, 2});
  CHECK(requests.block_table == Ints{2, 3, 4, 5, 10, 11, 0, 0});
  CHECK(requests.decode);
  // The same by a first position, over all cells.
  for (std::int32_t b = 0; b < 2; ++b) {
    for (std::int32_t t = 0; t < padding[b]; ++t) lists.add_key(b, t, b * 6 + t);
    lists.row_first.push_back(padding[b]);
  }
  CHECK(make(lists).block_table == requests.block_table);
}

TEST_CASE("rows of a sequence are brought together, or stay where they are") {
  Lists lists;
  for (std::int32_t i = 0; i < 4; ++i) lists.add_key(i % 2, i / 2, i);
  for (std::int32_t i = 0; i < 4; ++i) lists.add_row(i % 2, i / 2);
  CellRequests requests = make(lists);
  CHECK(requests.rows == Ints{0, 2, 1, 3});
  CHECK(requests.cu_seqlens_q == Ints{0, 2, 4});
  CHECK(requests.sequences == Ints{0, 1});
  CHECK_FALSE(requests.in_order);
  CHECK(requests.decode);

  lists.keep_order = true;
  requests = make(lists);
  CHECK(requests.rows == Ints{0, 1, 2, 3});
  CHECK(requests.cu_seqlens_q == Ints{0, 1, 2, 3, 4});
  CHECK(requests.seq_lens == Ints{1, 1, 2, 2});
  CHECK(requests.in_order);
  CHECK_FALSE(requests.decode);  // a slot of a selection cache serves one request
}

TEST_CASE("a row that sees nothing is padding, and one behind it a request of its own") {
  Lists lists;
  lists.add_key(0, 1, 7);
  for (const std::int64_t position : {0, 1, 2}) lists.add_row(0, position);
  const CellRequests requests = make(lists);
  CHECK(requests.seq_lens == Ints{0, 1, 1});
  CHECK(requests.cu_seqlens_q == Ints{0, 1, 2, 3});
}

TEST_CASE("a call without rows has no requests") {
  Lists lists;
  lists.add_key(0, 0, 0);
  const CellRequests requests = make(lists);
  CHECK(requests.seq_lens.empty());
  CHECK(requests.cu_seqlens_q == Ints{0});
}

TEST_CASE("refresh_from counts decode calls over keys that were only added to") {
  Lists lists;
  const auto& config = lists.config;
  CellRequests requests;
  std::int32_t length = 0;
  const auto step = [&](std::int32_t rows) {
    lists.row_sequences.clear();
    lists.row_positions.clear();
    for (std::int32_t i = 0; i < rows; ++i, ++length) {
      lists.add_key(3, length, length);
      lists.add_row(3, length);
    }
    REQUIRE(make_cell_requests(lists.batch(), requests).ok());
    return requests.refresh_from.at(0);
  };
  step(40);
  CHECK_FALSE(requests.decode);
  for (std::int64_t i = 0; i < 20; ++i) CHECK(step(1) == refresh_from_at(config, i));
  CHECK(step(3) == refresh_from_at(config, 20));
  std::swap(lists.key_pages[4], lists.key_pages[5]);
  CHECK(step(1) == 0);
  CHECK(step(1) == refresh_from_at(config, 1));
  requests.steps.erase(3);
  CHECK(step(1) == 0);
  lists.has_config = false;
  CHECK(make(lists).refresh_from.empty());
}

TEST_CASE("make_cell_requests refuses what is no batch by name") {
  const auto check = [](StatusCode code, const Mentions& mentions, const auto& spoil) {
    Lists lists;
    for (std::int32_t i = 0; i < 3; ++i) lists.add_key(0, i, i);
    lists.add_row(0, 2);
    lists.row_first = {0};
    spoil(lists);
    CellRequests requests;
    const Status status = make_cell_requests(lists.batch(), requests);
    check_refused(status, code, mentions);
    CHECK(requests.seq_lens.empty());
    if (code == StatusCode::kInvalidShape) return;  // C has one count for all
    CellRequests c;
    check_same_status(status, make_through_c(lists, c));
  };
  check(StatusCode::kInvalidShape, {"key_sequences.size", "2"},
        [](Lists& lists) { lists.key_sequences.pop_back(); });
  check(StatusCode::kInvalidShape, {"key_positions.size", "2"},
        [](Lists& lists) { lists.key_positions.pop_back(); });
  check(StatusCode::kInvalidShape, {"row_positions.size", "0"},
        [](Lists& lists) { lists.row_positions.clear(); });
  check(StatusCode::kInvalidShape, {"row_first.size", "2"},
        [](Lists& lists) { lists.row_first.push_back(0); });
  check(StatusCode::kInvalidPage, {"key_pages[1]", "-4"},
        [](Lists& lists) { lists.key_pages[1] = -4; });
  check(StatusCode::kInvalidScalar, {"window", "-1"}, [](Lists& lists) { lists.window = -1; });
  check(StatusCode::kUnsupported, {"row 0 sees 3 keys", "window of 2"},
        [](Lists& lists) { lists.window = 2; });
}

TEST_CASE("C: cells refuse what is null by name") {
  HipAttnCells* cells = nullptr;
  REQUIRE(hip_attn_cells_create(&cells, nullptr, 0) == HIP_ATTN_OK);
  const std::int32_t number = 0;
  const std::int64_t position = 0;
  const auto check = [&](StatusCode code, const Mentions& mentions, const auto& spoil) {
    HipAttnCellBatch batch{sizeof(batch), 1,         &number, &position, &number, 1,
                           &number,       &position, nullptr, 0,         0,       nullptr};
    HipAttnCellRequests requests{};
    requests.struct_size = sizeof(requests);
    spoil(batch);
    const Status status = status_of_c([&](char* message, std::size_t capacity) {
      return hip_attn_cells_requests(cells, &batch, &requests, message, capacity);
    });
    check_refused(status, code, mentions);
  };
  const auto null = StatusCode::kNullPointer;
  check(null, {"key_sequences"}, [](HipAttnCellBatch& b) { b.key_sequences = nullptr; });
  check(null, {"key_positions"}, [](HipAttnCellBatch& b) { b.key_positions = nullptr; });
  check(null, {"key_pages"}, [](HipAttnCellBatch& b) { b.key_pages = nullptr; });
  check(null, {"row_sequences"}, [](HipAttnCellBatch& b) { b.row_sequences = nullptr; });
  check(null, {"row_positions"}, [](HipAttnCellBatch& b) { b.row_positions = nullptr; });
  check(StatusCode::kInvalidShape, {"num_keys is -1"},
        [](HipAttnCellBatch& b) { b.num_keys = -1; });
  check(StatusCode::kInvalidShape, {"num_rows is -2"},
        [](HipAttnCellBatch& b) { b.num_rows = -2; });
  HipAttnCellBatch batch{};
  batch.struct_size = sizeof(batch);
  CHECK(hip_attn_cells_requests(nullptr, &batch, nullptr, nullptr, 0) == HIP_ATTN_NULL_POINTER);
  CHECK(hip_attn_cells_requests(cells, &batch, nullptr, nullptr, 0) == HIP_ATTN_NULL_POINTER);
  CHECK(hip_attn_cells_requests(cells, nullptr, nullptr, nullptr, 0) == HIP_ATTN_NULL_POINTER);
  CHECK(hip_attn_cells_create(nullptr, nullptr, 0) == HIP_ATTN_NULL_POINTER);
  hip_attn_cells_forget(cells, 0);
  hip_attn_cells_forget(nullptr, 0);
  hip_attn_cells_destroy(cells);
  hip_attn_cells_destroy(nullptr);
}

}  // namespace
}  // namespace hip_attn
