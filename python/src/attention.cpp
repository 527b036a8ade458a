#include "offload.hpp"

namespace hip_attn::python {
namespace {

struct ThreadTeam {
  explicit ThreadTeam(std::int32_t size) {
    HipAttnThreadTeam* team = nullptr;
    check([&](char* message, std::size_t capacity) {
      return hip_attn_thread_team_create(size, &team, message, capacity);
    });
    handle.reset(team);
  }
  ThreadTeamHandle handle;
};

// What prefill and decode take alike. An absent array is None.
struct Call {
  const Plan* plan;
  const Workspace* workspace;
  nb::handle q;
  const KvPages* pages;
  nb::handle block_table, seq_lens, cu_seqlens_q, out, lse;
  std::optional<float> scale, logit_softcap;
  const Selection* selection_out;
  const Selection* selection;
  const Landmarks* landmarks;
  nb::handle counters, stream;
  const KvStore* store;
  ThreadTeam* team;
  std::int32_t part;
};

void run(bool is_decode, const Call& call, const HipAttnSelectionCache* cache) {
  const DLDevice device = call.plan != nullptr ? call.plan->device : DLDevice{kDLCPU, 0};
  const CallStream stream = stream_of(call.stream, call.q, device);
  const auto read = [&](const char* name, nb::handle array) {
    return Array(name, array, Access::kRead, stream);
  };
  const auto written = [&](const char* name, nb::handle array) {
    return Array(name, array, Access::kWrite, stream);
  };
  const Array q = read("q", call.q);
  const Array block_table = read("block_table", call.block_table);
  const Array seq_lens = read("seq_lens", call.seq_lens);
  const Array cu_seqlens_q = read("cu_seqlens_q", call.cu_seqlens_q);
  const Array out = written("out", call.out);
  const Array lse = written("lse", call.lse);
  const Array counters = written("counters", call.counters);
  if (call.selection_out != nullptr) {
    call.selection_out->require_writable(
        {"selection_out.blocks", "selection_out.counts", "selection_out.window_start"});
  }
  if (call.workspace != nullptr) call.workspace->require_on(device);

  auto kv = zeroed<HipAttnPagedKv>();
  kv.pages = view_of(call.pages);
  kv.block_table = block_table.get();
  auto args = zeroed<HipAttnAttentionArgs>();
  args.q = q.get();
  args.kv = call.pages != nullptr ? &kv : nullptr;
  args.seq_lens = seq_lens.get();
  args.cu_seqlens_q = cu_seqlens_q.get();
  args.out = out.get();
  args.lse = lse.get();
  args.scale = call.scale ? &*call.scale : nullptr;
  args.logit_softcap = call.logit_softcap ? &*call.logit_softcap : nullptr;
  args.selection_out = view_of(call.selection_out);
  args.selection = view_of(call.selection);
  args.cache = cache;
  args.landmarks = view_of(call.landmarks);
  args.counters = counters.get();
  args.store = view_of(call.store);
  void* const workspace = call.workspace != nullptr ? call.workspace->data() : nullptr;
  const std::size_t nbytes = call.workspace != nullptr ? call.workspace->nbytes() : 0;
  const HipAttnPlan* const plan = call.plan != nullptr ? call.plan->handle.get() : nullptr;
  check_without_gil([&](char* message, std::size_t capacity) {
    if (call.team != nullptr) {
      const auto function = is_decode ? hip_attn_decode_part : hip_attn_prefill_part;
      return function(plan, &args, workspace, nbytes, call.team->handle.get(), call.part, message,
                      capacity);
    }
    const auto function = is_decode ? hip_attn_decode : hip_attn_prefill;
    return function(plan, &args, workspace, nbytes, stream.stream, message, capacity);
  });
}

void prefill(const Plan* plan, const Workspace* workspace, nb::handle q, const KvPages* pages,
             nb::handle block_table, nb::handle seq_lens, nb::handle cu_seqlens_q, nb::handle out,
             nb::handle lse, std::optional<float> scale, std::optional<float> logit_softcap,
             const Selection* selection_out, const Selection* selection, const Landmarks* landmarks,
             nb::handle counters, nb::handle stream, const KvStore* store, ThreadTeam* team,
             std::int32_t part) {
  run(false,
      {plan, workspace, q, pages, block_table, seq_lens, cu_seqlens_q, out, lse, scale,
       logit_softcap, selection_out, selection, landmarks, counters, stream, store, team, part},
      nullptr);
}

void decode(const Plan* plan, const Workspace* workspace, nb::handle q, const KvPages* pages,
            nb::handle block_table, nb::handle seq_lens, nb::handle cu_seqlens_q, nb::handle out,
            nb::handle lse, std::optional<float> scale, std::optional<float> logit_softcap,
            const Selection* selection_out, const Selection* selection, const Landmarks* landmarks,
            nb::handle counters, nb::handle stream, const KvStore* store, ThreadTeam* team,
            std::int32_t part, const SelectionCache* cache, nb::handle refresh_from,
            nb::handle slots) {
  if (cache == nullptr && !(refresh_from.is_none() && slots.is_none())) {
    throw nb::type_error("refresh_from and slots are for a cache, which is None");
  }
  const DLDevice device = plan != nullptr ? plan->device : DLDevice{kDLCPU, 0};
  const CallStream call_stream = cache != nullptr ? stream_of(stream, q, device) : CallStream{};
  const Array refresh("refresh_from", refresh_from, Access::kRead, call_stream);
  const Array slot_of_request("slots", slots, Access::kRead, call_stream);
  HipAttnSelectionCache view = zeroed<HipAttnSelectionCache>();
  if (cache != nullptr) {
    view = cache->view();
    view.refresh_from = refresh.get();
    view.slots = slot_of_request.get();
  }
  run(true,
      {plan, workspace, q, pages, block_table, seq_lens, cu_seqlens_q, out, lse, scale,
       logit_softcap, selection_out, selection, landmarks, counters, stream, store, team, part},
      cache != nullptr ? &view : nullptr);
}

void make_index_selection(const Plan* plan, nb::handle indices, const Selection* selection,
                          nb::handle seq_lens, nb::handle cu_seqlens_q, nb::handle stream) {
  const DLDevice device = plan != nullptr ? plan->device : DLDevice{kDLCPU, 0};
  const CallStream call_stream = stream_of(stream, indices, device);
  const Array numbers("indices", indices, Access::kRead, call_stream);
  const Array lens("seq_lens", seq_lens, Access::kRead, call_stream);
  const Array starts("cu_seqlens_q", cu_seqlens_q, Access::kRead, call_stream);
  if (selection != nullptr) {
    selection->require_writable({"selection.blocks", "selection.counts", "selection.window_start"});
  }
  auto args = zeroed<HipAttnIndexSelectionArgs>();
  args.indices = numbers.get();
  args.seq_lens = lens.get();
  args.cu_seqlens_q = starts.get();
  args.selection = view_of(selection);
  check_without_gil([&](char* message, std::size_t capacity) {
    return hip_attn_make_index_selection(plan != nullptr ? plan->handle.get() : nullptr, &args,
                                         call_stream.stream, message, capacity);
  });
}

}  // namespace

// The signatures of both, for docstrings and stubs.
#define HIP_ATTN_ARRAY "hip_attn._typing.Array"
#define HIP_ATTN_MAYBE_ARRAY "hip_attn._typing.Array | None = None"
#define HIP_ATTN_ARGUMENTS                                                                  \
  "plan: Plan, workspace: Workspace, q: " HIP_ATTN_ARRAY                                    \
  ", pages: KvPages, *, block_table: " HIP_ATTN_MAYBE_ARRAY ", seq_lens: " HIP_ATTN_ARRAY   \
  ", cu_seqlens_q: " HIP_ATTN_ARRAY ", out: " HIP_ATTN_ARRAY ", lse: " HIP_ATTN_MAYBE_ARRAY \
  ", scale: float | None = None, logit_softcap: float | None = None, "                      \
  "selection_out: Selection | None = None, selection: Selection | None = None, "            \
  "landmarks: Landmarks | None = None, counters: " HIP_ATTN_MAYBE_ARRAY                     \
  ", stream: hip_attn._typing.Stream | None = None, store: KvStore | None = None, "         \
  "team: ThreadTeam | None = None, part: int = 0"

void bind_attention(nb::module_& module) {
  using nb::arg;
  const nb::object none = nb::none();
  nb::class_<ThreadTeam>(module, "ThreadTeam",
                         R"(Threads of the caller that run one call of the CPU together.

size: 1 to num_threads of the plans. Each of them makes the same call with a part of its own, 0 to
size - 1, in place of OpenMP's threads.)")
      .def(nb::init<std::int32_t>(), arg("size"));
  module.def(
      "prefill", prefill, arg("plan").none(), arg("workspace").none(), arg("q").none(),
      arg("pages").none(), nb::kw_only(), arg("block_table").none() = none, arg("seq_lens").none(),
      arg("cu_seqlens_q").none(), arg("out").none(), arg("lse").none() = none, arg("scale") = none,
      arg("logit_softcap") = none, arg("selection_out").none() = none,
      arg("selection").none() = none, arg("landmarks").none() = none, arg("counters").none() = none,
      arg("stream").none() = none, arg("store").none() = none, arg("team").none() = none,
      arg("part") = 0, nb::sig("def prefill(" HIP_ATTN_ARGUMENTS ") -> None"),
      R"(Attention of many rows per request. Writes out, and lse, selection_out and counters where given.

T is the plan's dtype, Hq and Hk its query and KV heads, D its head_dim; B requests have total_q rows.

q: T [total_q, Hq, D], or [B, R, Hq, D] with strides of its own, where no request has more than R rows,
    such as q.transpose(1, 2) of a torch tensor [B, Hq, R, D]. Row i of request b stands at position
    seq_lens[b] - rows of b + i.
pages: the cache, the keys of this call already appended.
block_table: int32 [B, max_pages]: token t of request b is in page block_table[b, t // page_size] at
    offset t % page_size. None: request b owns page b.
seq_lens: int32 [B], keys of each request, in tokens. 0: padding, whose rows get 0.
cu_seqlens_q: int32 [B + 1], the first row of each request, ascending from 0 to total_q.
out: T [total_q, Hq, D].
lse: float32 [total_q, Hq], natural log of the sum of exp(logit).
scale: None: 1 / sqrt(D). logit_softcap: None: none.
selection_out, selection: Selections; with a selection nothing is searched.
landmarks: needed where Config.landmark_chunk_sizes() is not empty.
counters: int64 [stages + 2], added to: what each stage reads, keys read by attention, and (row, KV
    head, key) triples attended.
stream: a number, or a stream of torch or CuPy, on which the call is enqueued. None: torch's current
    one where q is of torch, else CUDA's default stream. The CPU has none.
store: the KvStore of pages that are HostMemory.pages().
team, part: CPU, a ThreadTeam and the part that this thread runs of the call.

Raises hip_attn.Error, with the library's message.)");
  module.def("decode", decode, arg("plan").none(), arg("workspace").none(), arg("q").none(),
             arg("pages").none(), nb::kw_only(), arg("block_table").none() = none,
             arg("seq_lens").none(), arg("cu_seqlens_q").none(), arg("out").none(),
             arg("lse").none() = none, arg("scale") = none, arg("logit_softcap") = none,
             arg("selection_out").none() = none, arg("selection").none() = none,
             arg("landmarks").none() = none, arg("counters").none() = none,
             arg("stream").none() = none, arg("store").none() = none, arg("team").none() = none,
             arg("part") = 0, arg("cache").none() = none, arg("refresh_from").none() = none,
             arg("slots").none() = none,
             nb::sig("def decode(" HIP_ATTN_ARGUMENTS
                     ", cache: SelectionCache | None = None, refresh_from: " HIP_ATTN_MAYBE_ARRAY
                     ", slots: " HIP_ATTN_MAYBE_ARRAY ") -> None"),
             R"(Attention of 1 to 8 rows per request. Takes what prefill takes, and:

cache: the SelectionCache of this layer, in which a selection outlives its step.
refresh_from: int32 [B], the first stage that request b searches again; see
    Config.refresh_from_at. Below 0, from Config.refresh_ahead_at: none, but stages before the last
    search for the next step.
slots: int32 [B], the slot of request b in the cache. None: slot b.)");
  module.def("selection_row", hip_attn_selection_row, arg("cu_seqlens_q_b"), arg("b"), arg("n"),
             arg("block_q"),
             "The row of a prefill's Selection for query block n (0: that of the first row) of "
             "request b, whose first row is cu_seqlens_q_b.");
  module.def(
      "make_index_selection", make_index_selection, arg("plan").none(), arg("indices").none(),
      arg("selection").none(), nb::kw_only(), arg("seq_lens").none(), arg("cu_seqlens_q").none(),
      arg("stream").none() = none,
      nb::sig("def make_index_selection(plan: Plan, indices: " HIP_ATTN_ARRAY
              ", selection: Selection, *, seq_lens: " HIP_ATTN_ARRAY
              ", cu_seqlens_q: " HIP_ATTN_ARRAY
              ", stream: hip_attn._typing.Stream | None = None) -> None"),
      R"(Makes a selection of block numbers by cuDNN's contract, such as of a trained indexer.

A row then attends to the keys of its blocks up to its own position, to the sink of the plan's config,
which can be 0, and to nothing else.

plan: its config has the granularity (1, 4, 64, 128 or any power of two) as the chunk_size of its last
    stage, and of prefill block_q 1. Requests of a decode call have one row.
indices: int32 [total_q, Hk or 1, top_k], token // granularity in any order; negative, such as -1: none.
    A number that comes twice counts once. With a size of 1 all KV heads have the same.
selection: written; its blocks are [plan.selection_rows, Hk, at least top_k].
seq_lens, cu_seqlens_q: those of the call that takes the selection. stream: as in prefill.

On a GPU nothing is read by the host, so it can be captured; an index behind the row's own block there
gives a count of -1, which that call answers with NaN, and raises hip_attn.Error on the CPU.)");
}

}  // namespace hip_attn::python
