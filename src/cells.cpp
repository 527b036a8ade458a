#include "hip_attn/cells.hpp"

#include <algorithm>
#include <cstddef>
#include <exception>
#include <limits>
#include <set>
#include <utility>

#include "hip_attn/attention.hpp"
#include "hip_attn/checks/views.hpp"

namespace hip_attn {
namespace {

using detail::message;

struct Key {
  std::int64_t position;
  std::int32_t page;
  auto operator<=>(const Key&) const = default;
};

struct Sequence {
  std::vector<Key> keys;           // in the order of their positions
  std::vector<std::int32_t> rows;  // in the order that the batch has them
};

// Rows of one sequence and the keys [first, end) that the last one sees.
struct Request {
  std::int32_t sequence;
  const Sequence* keys_of;
  std::int64_t first;
  std::int64_t end;
  std::vector<std::int32_t> rows;
};

Status check_count(const char* name, std::size_t size, const char* of, std::size_t expected) {
  return detail::check_size(name, static_cast<std::int64_t>(size), of,
                            static_cast<std::int64_t>(expected));
}

Status check_batch(const CellBatch& batch) {
  const std::size_t keys = batch.key_pages.size();
  const std::size_t rows = batch.row_sequences.size();
  HIP_ATTN_RETURN_IF_ERROR(
      check_count("key_sequences.size", batch.key_sequences.size(), "as key_pages", keys));
  HIP_ATTN_RETURN_IF_ERROR(
      check_count("key_positions.size", batch.key_positions.size(), "as key_pages", keys));
  HIP_ATTN_RETURN_IF_ERROR(
      check_count("row_positions.size", batch.row_positions.size(), "as row_sequences", rows));
  if (!batch.row_first.empty()) {
    HIP_ATTN_RETURN_IF_ERROR(
        check_count("row_first.size", batch.row_first.size(), "as row_sequences", rows));
  }
  constexpr std::size_t kMax = std::numeric_limits<std::int32_t>::max();
  if (keys > kMax || rows > kMax) {
    return {StatusCode::kInvalidShape, message("there are ", keys, " keys and ", rows,
                                               " rows; there can be 2^31 - 1 of each")};
  }
  if (batch.window < 0) {
    return {StatusCode::kInvalidScalar,
            message("window is ", batch.window, "; it must not be negative")};
  }
  for (std::size_t i = 0; i < keys; ++i) {
    if (batch.key_pages[i] < 0) {
      return {StatusCode::kInvalidPage, message("key_pages[", i, "] is ", batch.key_pages[i],
                                                "; pages must not be negative")};
    }
  }
  return {};
}

// Sequences that have rows, with their keys in order.
std::map<std::int32_t, Sequence> sequences_of(const CellBatch& batch) {
  std::map<std::int32_t, Sequence> sequences;
  for (std::size_t i = 0; i < batch.row_sequences.size(); ++i) {
    sequences[batch.row_sequences[i]].rows.push_back(static_cast<std::int32_t>(i));
  }
  // Neighbours are mostly of one sequence.
  auto last = sequences.end();
  for (std::size_t i = 0; i < batch.key_pages.size(); ++i) {
    const std::int32_t sequence = batch.key_sequences[i];
    if (last == sequences.end() || last->first != sequence) last = sequences.find(sequence);
    if (last == sequences.end()) continue;
    last->second.keys.push_back({batch.key_positions[i], batch.key_pages[i]});
  }
  for (auto& [id, sequence] : sequences) {
    if (!std::ranges::is_sorted(sequence.keys)) std::ranges::sort(sequence.keys);
  }
  return sequences;
}

// The window of the configuration, where the batch says which keys lie in it.
std::int64_t window_of(const CellBatch& batch) {
  return batch.row_first.empty() ? 0 : batch.window;
}

// A row that sees keys [first, end): in the last request where that sees one key less. A window
// takes the oldest key away again, so that a request's first key can lie before it.
void add_row(const CellBatch& batch, std::int32_t row, const Sequence& sequence, std::int64_t first,
             std::int64_t end, std::vector<Request>& requests) {
  const std::int32_t id = batch.row_sequences[static_cast<std::size_t>(row)];
  if (!requests.empty()) {
    Request& last = requests.back();
    const std::int64_t window = window_of(batch);
    const std::int64_t in_window = window > 0 ? end - window : 0;
    // A request without keys is padding, and has none to add to.
    if (last.sequence == id && last.end > last.first && end == last.end + 1 &&
        first == std::max(last.first, in_window)) {
      last.end = end;
      last.rows.push_back(row);
      return;
    }
  }
  requests.push_back({id, &sequence, first, end, {row}});
}

Status find_requests(const CellBatch& batch, const std::map<std::int32_t, Sequence>& sequences,
                     std::vector<Request>& requests) {
  const auto add = [&](std::int32_t row, const Sequence& sequence) -> Status {
    const auto i = static_cast<std::size_t>(row);
    const std::vector<Key>& keys = sequence.keys;
    const std::int64_t end =
        std::ranges::upper_bound(keys, batch.row_positions[i], {}, &Key::position) - keys.begin();
    std::int64_t first = 0;
    if (!batch.row_first.empty()) {
      first = std::ranges::lower_bound(keys, batch.row_first[i], {}, &Key::position) - keys.begin();
    }
    first = std::min(first, end);
    if (window_of(batch) > 0 && end - first > batch.window) {
      return {StatusCode::kUnsupported,
              message("row ", row, " sees ", end - first, " keys; a window of ", batch.window,
                      " holds fewer, so that some of them share a position")};
    }
    add_row(batch, row, sequence, first, end, requests);
    return {};
  };
  std::set<std::int32_t> done;
  for (std::size_t i = 0; i < batch.row_sequences.size(); ++i) {
    const Sequence& sequence = sequences.at(batch.row_sequences[i]);
    if (batch.keep_order) {
      HIP_ATTN_RETURN_IF_ERROR(add(static_cast<std::int32_t>(i), sequence));
    } else if (done.insert(batch.row_sequences[i]).second) {
      for (const std::int32_t row : sequence.rows) HIP_ATTN_RETURN_IF_ERROR(add(row, sequence));
    }
  }
  return {};
}

void clear(CellRequests& result) {
  result.seq_lens.clear();
  result.cu_seqlens_q.assign(1, 0);
  result.block_table.clear();
  result.max_seq_len = 0;
  result.rows.clear();
  result.sequences.clear();
  result.refresh_from.clear();
  result.in_order = true;
  result.decode = true;
}

void write_requests(const std::vector<Request>& requests, CellRequests& result) {
  std::set<std::int32_t> sequences;
  for (const Request& request : requests) {
    result.seq_lens.push_back(static_cast<std::int32_t>(request.end - request.first));
    result.max_seq_len = std::max(result.max_seq_len, request.end - request.first);
    result.rows.insert(result.rows.end(), request.rows.begin(), request.rows.end());
    result.cu_seqlens_q.push_back(static_cast<std::int32_t>(result.rows.size()));
    result.sequences.push_back(request.sequence);
    result.decode &= std::ssize(request.rows) <= kMaxDecodeRows;
    result.decode &= sequences.insert(request.sequence).second;
  }
  result.in_order = std::ranges::is_sorted(result.rows);
  result.block_table.resize(requests.size() * static_cast<std::size_t>(result.max_seq_len));
  auto table_row = result.block_table.begin();
  for (const Request& request : requests) {
    std::transform(request.keys_of->keys.begin() + request.first,
                   request.keys_of->keys.begin() + request.end, table_row,
                   [](const Key& key) { return key.page; });
    table_row += result.max_seq_len;
  }
}

// Whether the keys before this call are those of the last one, and what a decode call refreshes.
void advance_steps(const HipConfig& config, CellRequests& result) {
  for (std::size_t b = 0; b < result.seq_lens.size(); ++b) {
    CellRequests::Steps& last = result.steps[result.sequences[b]];
    const auto pages =
        result.block_table.begin() + static_cast<std::ptrdiff_t>(b) * result.max_seq_len;
    const std::int64_t before =
        result.seq_lens[b] - (result.cu_seqlens_q[b + 1] - result.cu_seqlens_q[b]);
    const bool goes_on = result.decode && before > 0 && before <= std::ssize(last.pages) &&
                         std::equal(pages, pages + before, last.pages.begin());
    if (!goes_on) last.count = 0;
    last.pages.assign(pages, pages + result.seq_lens[b]);
    result.refresh_from.push_back(refresh_from_at(config, last.count));
    if (result.decode) ++last.count;
  }
}

}  // namespace

Status make_cell_requests(const CellBatch& batch, CellRequests& result) {
  try {
    clear(result);
    HIP_ATTN_RETURN_IF_ERROR(check_batch(batch));
    const std::map<std::int32_t, Sequence> sequences = sequences_of(batch);
    std::vector<Request> requests;
    HIP_ATTN_RETURN_IF_ERROR(find_requests(batch, sequences, requests));
    write_requests(requests, result);
    if (batch.config != nullptr) advance_steps(*batch.config, result);
    return {};
  } catch (const std::exception&) {  // bad_alloc, or length_error of a table beyond any memory
    clear(result);
    return {StatusCode::kOutOfMemory, "there is no memory for the requests of the cells"};
  }
}

}  // namespace hip_attn
