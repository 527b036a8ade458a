#include "offload.hpp"

namespace hip_attn::python {
namespace {

// Where an operator without a plan runs: as the caller says, else where the array lies.
DLDevice device_or_that_of(nb::handle given, nb::handle array) {
  if (!given.is_none()) return device_of(given);
  if (!array.is_none() && nb::hasattr(array, "__dlpack_device__")) {
    const auto device = nb::cast<std::tuple<int, int>>(array.attr("__dlpack_device__")());
    if (std::get<0>(device) == kDLCUDA) return {kDLCUDA, std::get<1>(device)};
  }
  return {kDLCPU, 0};
}

void append_kv(const KvPages* pages, nb::handle k, nb::handle v, nb::handle slot_mapping,
               const Landmarks* landmarks, nb::handle block_table, nb::handle seq_lens,
               nb::handle cu_seqlens, nb::handle device, nb::handle stream, const KvStore* store,
               const SelectionCache* cache, nb::handle slots) {
  if (landmarks == nullptr && store == nullptr &&
      !(block_table.is_none() && seq_lens.is_none() && cu_seqlens.is_none())) {
    throw nb::type_error(
        "block_table, seq_lens and cu_seqlens are for landmarks and a store, which are None");
  }
  if (store == nullptr && cache != nullptr) {
    throw nb::type_error("cache is for a store, which is None");
  }
  if (cache == nullptr && !slots.is_none()) {
    throw nb::type_error("slots is for a cache, which is None");
  }
  const DLDevice where = device_or_that_of(device, k);
  const CallStream call_stream = stream_of(stream, k, where);
  const auto read = [&](const char* name, nb::handle array) {
    return Array(name, array, Access::kRead, call_stream);
  };
  const Array new_k = read("k", k);
  const Array new_v = read("v", v);
  const Array slots_of_tokens = read("slot_mapping", slot_mapping);
  const Array table = read("block_table", block_table);
  const Array lens = read("seq_lens", seq_lens);
  const Array starts = read("cu_seqlens", cu_seqlens);
  const Array slots_of_requests = read("slots", slots);
  if (pages != nullptr) pages->require_writable();
  if (landmarks != nullptr) landmarks->require_writable();

  auto kept = zeroed<HipAttnAppendLandmarks>();
  kept.landmarks = view_of(landmarks);
  kept.block_table = table.get();
  kept.seq_lens = lens.get();
  kept.cu_seqlens = starts.get();
  HipAttnSelectionCache selections = cache != nullptr ? cache->view() : HipAttnSelectionCache{};
  selections.slots = slots_of_requests.get();
  auto hot = zeroed<HipAttnAppendStore>();
  hot.store = view_of(store);
  hot.block_table = table.get();
  hot.seq_lens = lens.get();
  hot.cu_seqlens = starts.get();
  hot.cache = cache != nullptr ? &selections : nullptr;
  auto args = zeroed<HipAttnAppendKvArgs>();
  args.k = new_k.get();
  args.v = new_v.get();
  args.slot_mapping = slots_of_tokens.get();
  args.pages = view_of(pages);
  args.landmarks = landmarks != nullptr ? &kept : nullptr;
  args.store = store != nullptr ? &hot : nullptr;
  check_without_gil([&](char* message, std::size_t capacity) {
    return hip_attn_append_kv(where, &args, call_stream.stream, message, capacity);
  });
}

void update_landmarks(const Landmarks* landmarks, const KvPages* pages, nb::handle block_table,
                      nb::handle from_lens, nb::handle to_lens, std::int64_t max_tokens,
                      nb::handle device, nb::handle stream) {
  const DLDevice where = device_or_that_of(device, to_lens);
  const CallStream call_stream = stream_of(stream, to_lens, where);
  const Array table("block_table", block_table, Access::kRead, call_stream);
  const Array from("from_lens", from_lens, Access::kRead, call_stream);
  const Array to("to_lens", to_lens, Access::kRead, call_stream);
  if (landmarks != nullptr) landmarks->require_writable();

  auto kv = zeroed<HipAttnPagedKv>();
  kv.pages = view_of(pages);
  kv.block_table = table.get();
  auto args = zeroed<HipAttnUpdateLandmarksArgs>();
  args.kv = pages != nullptr ? &kv : nullptr;
  args.from = from.get();
  args.to = to.get();
  args.landmarks = view_of(landmarks);
  args.max_tokens = max_tokens;
  check_without_gil([&](char* message, std::size_t capacity) {
    return hip_attn_update_landmarks(where, &args, call_stream.stream, message, capacity);
  });
}

void merge_states(nb::handle partial_out, nb::handle partial_lse, nb::handle out, nb::handle lse,
                  nb::handle device, nb::handle stream) {
  const DLDevice where = device_or_that_of(device, partial_out);
  const CallStream call_stream = stream_of(stream, partial_out, where);
  const Array outs("partial_out", partial_out, Access::kRead, call_stream);
  const Array lses("partial_lse", partial_lse, Access::kRead, call_stream);
  const Array merged_out("out", out, Access::kWrite, call_stream);
  const Array merged_lse("lse", lse, Access::kWrite, call_stream);
  auto args = zeroed<HipAttnMergeStatesArgs>();
  args.partial_out = outs.get();
  args.partial_lse = lses.get();
  args.out = merged_out.get();
  args.lse = merged_lse.get();
  check_without_gil([&](char* message, std::size_t capacity) {
    return hip_attn_merge_states(where, &args, call_stream.stream, message, capacity);
  });
}

void add_sink_logits(nb::handle sink_logits, nb::handle out, nb::handle lse, nb::handle device,
                     nb::handle stream) {
  const DLDevice where = device_or_that_of(device, out);
  const CallStream call_stream = stream_of(stream, out, where);
  const Array sinks("sink_logits", sink_logits, Access::kRead, call_stream);
  const Array changed_out("out", out, Access::kWrite, call_stream);
  const Array changed_lse("lse", lse, Access::kWrite, call_stream);
  auto args = zeroed<HipAttnAddSinkLogitsArgs>();
  args.sink_logits = sinks.get();
  args.out = changed_out.get();
  args.lse = changed_lse.get();
  check_without_gil([&](char* message, std::size_t capacity) {
    return hip_attn_add_sink_logits(where, &args, call_stream.stream, message, capacity);
  });
}

}  // namespace

// Parts of the signatures, for docstrings and stubs.
#define HIP_ATTN_ARRAY "hip_attn._typing.Array"
#define HIP_ATTN_MAYBE_ARRAY "hip_attn._typing.Array | None = None"
#define HIP_ATTN_WHERE "device: object = None, stream: hip_attn._typing.Stream | None = None"

void bind_kv(nb::module_& module) {
  using nb::arg;
  const nb::object none = nb::none();
  module.def("append_kv", append_kv, arg("pages").none(), arg("k").none(), arg("v").none(),
             nb::kw_only(), arg("slot_mapping").none(), arg("landmarks").none() = none,
             arg("block_table").none() = none, arg("seq_lens").none() = none,
             arg("cu_seqlens").none() = none, arg("device").none() = none,
             arg("stream").none() = none, arg("store").none() = none, arg("cache").none() = none,
             arg("slots").none() = none,
             nb::sig("def append_kv(pages: KvPages, k: " HIP_ATTN_ARRAY ", v: " HIP_ATTN_ARRAY
                     ", *, slot_mapping: " HIP_ATTN_ARRAY
                     ", landmarks: Landmarks | None = None, block_table: " HIP_ATTN_MAYBE_ARRAY
                     ", seq_lens: " HIP_ATTN_MAYBE_ARRAY ", cu_seqlens: " HIP_ATTN_MAYBE_ARRAY
                     ", " HIP_ATTN_WHERE
                     ", store: KvStore | None = None, cache: SelectionCache | None = None, "
                     "slots: " HIP_ATTN_MAYBE_ARRAY ") -> None"),
             R"(Writes new keys and values into the cache, and the landmarks that they complete.

k, v: [num_tokens, Hk, D] of the pages' dtype.
slot_mapping: int64 [num_tokens], page * page_size + offset; negative: the token is skipped.
landmarks: written; needs seq_lens, cu_seqlens, and block_table where decode has one:
seq_lens: int32 [B], keys of each request, those of this call included.
cu_seqlens: int32 [B + 1] ascending from 0 to num_tokens.
device: where it runs, "cpu" or "cuda:N". None: where k lies. stream: as in prefill.
store: the KvStore of pages that are HostMemory.pages(); needs block_table, seq_lens and cu_seqlens.
cache, slots: those of decode, whose last search says what becomes hot; None: sink and window do.)");
  module.def(
      "update_landmarks", update_landmarks, arg("landmarks").none(), arg("pages").none(),
      nb::kw_only(), arg("block_table").none() = none, arg("from_lens").none(),
      arg("to_lens").none(), arg("max_tokens") = 0, arg("device").none() = none,
      arg("stream").none() = none,
      nb::sig("def update_landmarks(landmarks: Landmarks, pages: KvPages, *, "
              "block_table: " HIP_ATTN_MAYBE_ARRAY ", from_lens: " HIP_ATTN_ARRAY
              ", to_lens: " HIP_ATTN_ARRAY ", max_tokens: int = 0, " HIP_ATTN_WHERE ") -> None"),
      R"(Makes the landmarks of keys that the cache holds already.

from_lens, to_lens: int32 [B], keys of each request before they were appended, and now.
max_tokens: the largest difference of both as far as is known; 0: unknown. A guess costs time only.
device: where it runs, "cpu" or "cuda:N". None: where to_lens lies. stream: as in prefill.)");
  module.def("merge_states", merge_states, arg("partial_out").none(), arg("partial_lse").none(),
             nb::kw_only(), arg("out").none(), arg("lse").none() = none,
             arg("device").none() = none, arg("stream").none() = none,
             nb::sig("def merge_states(partial_out: " HIP_ATTN_ARRAY
                     ", partial_lse: " HIP_ATTN_ARRAY ", *, out: " HIP_ATTN_ARRAY
                     ", lse: " HIP_ATTN_MAYBE_ARRAY ", " HIP_ATTN_WHERE ") -> None"),
             R"(Merges attention over parts of the keys into attention over all of them.

partial_out: [parts, total_q, Hq, D]. partial_lse: float32 [parts, total_q, Hq], natural log.
out: [total_q, Hq, D], written. lse: float32 [total_q, Hq], written where given.
device: where it runs, "cpu" or "cuda:N". None: where partial_out lies. stream: as in prefill.)");
  module.def(
      "add_sink_logits", add_sink_logits, arg("sink_logits").none(), arg("out").none(),
      arg("lse").none(), nb::kw_only(), arg("device").none() = none, arg("stream").none() = none,
      nb::sig("def add_sink_logits(sink_logits: " HIP_ATTN_ARRAY ", out: " HIP_ATTN_ARRAY
              ", lse: " HIP_ATTN_ARRAY ", *, " HIP_ATTN_WHERE ") -> None"),
      R"(Counts a sink logit per query head (gpt-oss) into attention that was computed without it.

A sink takes a share of each row's softmax and has no value. Parts of a sequence are merged first, since
a sink counts once.

sink_logits: float32 [Hq], natural log, neither scaled nor capped; -inf changes nothing.
out: [total_q, Hq, D] of prefill, decode or merge_states, changed in place. lse: float32 [total_q, Hq],
changed in place: that of keys and sink.
device: where it runs, "cpu" or "cuda:N". None: where out lies. stream: as in prefill.)");
}

}  // namespace hip_attn::python
