/// The first half of docs/guide/ggml.md's adapter: from llama.cpp's cells to requests.
#pragma once

#include <algorithm>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "hip_attn/hip_attn.hpp"
#include "llama_cells.hpp"

namespace hip_attn::test::ggml_adapter {

// [ggml-keys]
/// Where a key or a row stands. Only M-RoPE has tokens at one position: those of an image.
struct Place {
  llama_pos pos = 0;
  llama_pos y = 0;
  llama_pos x = 0;
  auto operator<=>(const Place&) const = default;
};

struct Key {
  Place place;
  std::int32_t page = 0;  // of one token
  auto operator<=>(const Key&) const = default;
};

/// The keys of a sequence in the order of their places. K and V begin at the cells of first_stream.
inline std::vector<Key> keys_of(const llama_kv_cache& cache, llama_seq_id seq, bool is_2d,
                                std::uint32_t first_stream) {
  const llama_kv_cells& cells = cache.get_cells(seq);
  const std::uint32_t first_page = (cache.get_stream(seq) - first_stream) * cache.get_size();
  const std::uint32_t end = cells.used_max_p1();
  std::vector<Key> keys;
  for (std::uint32_t cell = 0; cell < end; ++cell) {
    if (cells.is_empty(cell) || !cells.seq_has(cell, seq)) continue;
    Place place{cells.pos_get(cell)};
    if (is_2d) place = {place.pos, cells.ext_get(cell).y, cells.ext_get(cell).x};
    keys.push_back({place, static_cast<std::int32_t>(first_page + cell)});
  }
  if (!std::ranges::is_sorted(keys)) std::ranges::sort(keys);
  return keys;
}
// [ggml-keys]

// [ggml-mask]
/// The earliest position that a row at `pos` sees.
inline llama_pos earliest_seen(llama_swa_type type, llama_pos n_swa, llama_pos pos) {
  switch (type) {
    case LLAMA_SWA_TYPE_STANDARD:
      return pos - n_swa + 1;
    case LLAMA_SWA_TYPE_CHUNKED:
      return pos / n_swa * n_swa;
    case LLAMA_SWA_TYPE_SYMMETRIC:  // of a causal layer
      return pos - n_swa / 2;
    default:
      return 0;
  }
}

/// The window that the layer's configuration needs: presets::sliding_window(*window), or any.
inline std::optional<std::int64_t> window_of(llama_swa_type type, llama_pos n_swa) {
  if (type == LLAMA_SWA_TYPE_STANDARD) return n_swa;
  if (type == LLAMA_SWA_TYPE_SYMMETRIC) return n_swa / 2 + 1;
  return std::nullopt;
}
// [ggml-mask]

// [ggml-requests]
/// Rows of one sequence, each of which sees one key more than the row before.
struct Request {
  llama_seq_id seq;
  std::vector<std::int32_t> tokens;  // of the ubatch, one per row
  std::vector<std::int32_t> pages;   // the keys that the rows see
};

inline Place place_of(const llama_ubatch& ubatch, std::uint32_t i) {
  if (!ubatch.is_pos_2d()) return {ubatch.pos[i]};
  return {ubatch.pos[i], ubatch.pos[i + ubatch.n_tokens], ubatch.pos[i + 2 * ubatch.n_tokens]};
}

inline Status requests_of(const llama_ubatch& ubatch, const llama_kv_cache& cache,
                          llama_swa_type type, llama_pos n_swa, std::vector<Request>& requests) {
  std::vector<std::vector<std::int32_t>> sequences;  // the tokens of each, as they come
  std::map<llama_seq_id, std::size_t> index;
  std::uint32_t first_stream = cache.get_n_stream();
  for (std::uint32_t i = 0; i < ubatch.n_tokens; ++i) {
    const llama_seq_id seq = ubatch.seq_id[i][0];  // the others see the token's key, not its row
    const auto [at, is_new] = index.try_emplace(seq, sequences.size());
    if (is_new) sequences.emplace_back();
    sequences[at->second].push_back(static_cast<std::int32_t>(i));
    first_stream = std::min(first_stream, cache.get_stream(seq));
  }
  const std::optional<std::int64_t> window = window_of(type, n_swa);
  requests.clear();
  for (const std::vector<std::int32_t>& tokens : sequences) {
    const llama_seq_id seq = ubatch.seq_id[tokens[0]][0];
    const std::vector<Key> keys = keys_of(cache, seq, ubatch.is_pos_2d(), first_stream);
    std::int64_t request_first = 0;  // the request's keys are [request_first, last_end)
    std::int64_t last_end = -2;      // no row yet
    for (const std::int32_t token : tokens) {
      const Place place = place_of(ubatch, token);
      const llama_pos earliest = earliest_seen(type, n_swa, place.pos);
      const auto position = [](const Key& key) { return key.place.pos; };
      // The row sees keys [first, end).
      const auto first = std::ranges::lower_bound(keys, earliest, {}, position) - keys.begin();
      const auto end = std::ranges::upper_bound(keys, place, {}, &Key::place) - keys.begin();
      if (window && end - first > *window) {
        return {StatusCode::kUnsupported, "a sliding window holds two keys of one position"};
      }
      const std::int64_t first_in_window = window ? end - *window : 0;
      if (end == last_end + 1 && first == std::max(request_first, first_in_window)) {
        requests.back().pages.push_back(keys[end - 1].page);
      } else {
        requests.push_back({seq, {}, {}});
        for (auto i = first; i < end; ++i) requests.back().pages.push_back(keys[i].page);
        request_first = first;
      }
      requests.back().tokens.push_back(token);
      last_end = end;
    }
  }
  return {};
}
// [ggml-requests]

// [ggml-call]
/// The requests of a ubatch as arguments of the operators.
struct Call {
  std::vector<std::int32_t> tokens;  // the ubatch's token of each row
  bool in_order = true;              // row i is token i
  std::vector<std::int32_t> seq_lens;
  std::vector<std::int32_t> cu_seqlens_q{0};
  std::vector<std::int32_t> block_table;  // [requests, max_len]
  std::int64_t max_len = 0;
  bool decode = true;
  // Of a decode call that reuses selections.
  std::vector<std::int32_t> slots;
  std::vector<std::int32_t> refresh_from;
};

inline Call call_of(const std::vector<Request>& requests) {
  Call call;
  for (const Request& request : requests) {
    call.tokens.insert(call.tokens.end(), request.tokens.begin(), request.tokens.end());
    call.seq_lens.push_back(static_cast<std::int32_t>(request.pages.size()));
    call.cu_seqlens_q.push_back(static_cast<std::int32_t>(call.tokens.size()));
    call.max_len = std::max<std::int64_t>(call.max_len, request.pages.size());
    call.decode &= std::ssize(request.tokens) <= kMaxDecodeRows;
    call.slots.push_back(request.seq);
  }
  call.in_order = std::ranges::is_sorted(call.tokens);  // every token has one row
  call.block_table.resize(requests.size() * call.max_len);
  for (std::size_t b = 0; b < requests.size(); ++b) {
    std::ranges::copy(requests[b].pages, call.block_table.begin() + b * call.max_len);
  }
  // Two requests of a sequence cannot share a slot.
  call.decode &= std::ranges::adjacent_find(call.slots) == call.slots.end();
  return call;
}
// [ggml-call]

// [ggml-refresh]
/// Tells a decode step from a prefill and from a step over edited cells, for each sequence.
class DecodeSteps {
 public:
  /// Says which stages run again in a call of these requests.
  void advance(const HipConfig& config, const std::vector<Request>& requests, Call& call) {
    for (const Request& request : requests) {
      State& last = states_[request.seq];
      const auto old_end = request.pages.end() - std::ssize(request.tokens);
      const auto old_keys = old_end - request.pages.begin();
      const bool goes_on = call.decode && old_keys <= std::ssize(last.pages) &&
                           std::equal(request.pages.begin(), old_end, last.pages.begin());
      if (!goes_on) last.step = 0;
      last.pages = request.pages;
      call.refresh_from.push_back(refresh_from_at(config, last.step));
      if (call.decode) ++last.step;
    }
  }
  /// After a sequence's cells were filled from elsewhere (llama_state_seq_set_data).
  void forget(llama_seq_id seq) { states_.erase(seq); }

 private:
  struct State {
    std::int64_t step = 0;
    std::vector<std::int32_t> pages;
  };
  std::map<llama_seq_id, State> states_;
};
// [ggml-refresh]

}  // namespace hip_attn::test::ggml_adapter
