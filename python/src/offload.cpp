#include "offload.hpp"

#include <algorithm>
#include <utility>

#include "export.hpp"

namespace hip_attn::python {
namespace {

// `offset` counts elements.
OwnedTensor tensor_in(const std::shared_ptr<HostBytes>& bytes, DLDataType dtype,
                      std::int64_t offset, std::vector<std::int64_t> shape,
                      std::vector<std::int64_t> strides) {
  auto* const data = static_cast<std::byte*>(hip_attn_host_memory_data(bytes->handle.get()));
  return {bytes,
          data + offset * (dtype.bits / 8),
          bytes->device,
          dtype,
          std::move(shape),
          std::move(strides)};
}

}  // namespace

HostMemory::HostMemory(std::size_t nbytes, nb::handle device)
    : bytes_(std::make_shared<HostBytes>()) {
  const DLDevice on = device_of(device);
  HipAttnHostMemory* memory = nullptr;
  check_without_gil([&](char* message, std::size_t capacity) {
    return hip_attn_host_memory_allocate(on, nbytes, &memory, message, capacity);
  });
  bytes_->handle.reset(memory);
  if (on.device_type == kDLCUDA) bytes_->device = {kDLCUDAHost, 0};
}

std::size_t HostMemory::release(std::size_t nbytes) {
  if (bytes_.use_count() > 1) raise_buffer_error("arrays or pages of this memory exist");
  const nb::gil_scoped_release release;
  return hip_attn_host_memory_release(bytes_->handle.get(), nbytes);
}

nb::object HostMemory::dlpack(nb::handle /*stream*/, nb::handle max_version, nb::handle dl_device,
                              nb::handle copy) const {
  const auto size = static_cast<std::int64_t>(nbytes());
  return dlpack_capsule(tensor_in(bytes_, {kDLUInt, 8, 1}, 0, {size}, {1}), max_version, dl_device,
                        copy);
}

std::tuple<int, int> HostMemory::dlpack_device() const {
  return {bytes_->device.device_type, bytes_->device.device_id};
}

KvPages HostMemory::pages(std::int64_t num_kv_heads, std::int64_t head_dim,
                          nb::handle dtype) const {
  constexpr std::int64_t kTokens = HIP_ATTN_KV_BLOCK_TOKENS;
  constexpr std::int64_t kMost = 1 << 20;
  const DLDataType type = dtype_of("dtype", dtype);
  if (std::min(num_kv_heads, head_dim) < 1 || std::max(num_kv_heads, head_dim) > kMost) {
    throw nb::value_error("num_kv_heads and head_dim must be from 1 to 1048576");
  }
  const std::int64_t half = kTokens * head_dim;
  const std::int64_t block_bytes = 2 * half * num_kv_heads * (type.bits / 8);
  const std::vector<std::int64_t> shape{static_cast<std::int64_t>(nbytes()) / block_bytes, kTokens,
                                        num_kv_heads, head_dim};
  const std::vector<std::int64_t> strides{2 * half * num_kv_heads, head_dim, 2 * half, 1};
  const auto part = [&](std::int64_t offset) {
    return Array(managed_versioned(tensor_in(bytes_, type, offset, shape, strides)));
  };
  return {part(0), part(half)};
}

KvStore::KvStore(const KvStorePlan& plan, nb::handle memory, nb::handle rows)
    : plan_(plan.handle),
      device_(plan.device),
      memory_object_(nb::borrow(memory)),
      memory_("store.memory", memory, Access::kWrite),
      rows_("store.rows", rows, Access::kRead) {
  view_.plan = plan_.get();
  view_.memory = memory_.get();
  view_.rows = rows_.get();
}

void KvStore::clear(nb::handle stream) const {
  const CallStream call_stream = stream_of(stream, memory_object_, device_);
  check_without_gil([&](char* message, std::size_t capacity) {
    return hip_attn_clear_kv_store(&view_, call_stream.stream, message, capacity);
  });
}

void KvStore::bind(const KvPages& pages, nb::handle block_table, nb::handle seq_lens,
                   nb::handle stream) const {
  const CallStream call_stream = stream_of(stream, memory_object_, device_);
  const Array table("block_table", block_table, Access::kRead, call_stream);
  const Array lens("seq_lens", seq_lens, Access::kRead, call_stream);
  auto args = zeroed<HipAttnBindKvStoreArgs>();
  args.store = &view_;
  args.num_home_blocks = pages.num_pages();
  args.block_table = table.get();
  args.seq_lens = lens.get();
  check_without_gil([&](char* message, std::size_t capacity) {
    return hip_attn_bind_kv_store(&args, call_stream.stream, message, capacity);
  });
}

void KvStore::admit(const KvPages& pages, const SelectionCache& cache, nb::handle block_table,
                    nb::handle seq_lens, nb::handle slots, nb::handle stream) const {
  const CallStream call_stream = stream_of(stream, memory_object_, device_);
  const Array table("block_table", block_table, Access::kRead, call_stream);
  const Array lens("seq_lens", seq_lens, Access::kRead, call_stream);
  const Array slot_of_request("slots", slots, Access::kRead, call_stream);
  HipAttnSelectionCache selections = cache.view();
  selections.slots = slot_of_request.get();
  auto args = zeroed<HipAttnAdmitKvStoreArgs>();
  args.store = &view_;
  args.pages = &pages.view();
  args.block_table = table.get();
  args.seq_lens = lens.get();
  args.cache = &selections;
  check_without_gil([&](char* message, std::size_t capacity) {
    return hip_attn_admit_kv_store(&args, call_stream.stream, message, capacity);
  });
}

HipAttnKvStoreCounters KvStore::counters(nb::handle stream) const {
  const CallStream call_stream = stream_of(stream, memory_object_, device_);
  auto counters = zeroed<HipAttnKvStoreCounters>();
  check_without_gil([&](char* message, std::size_t capacity) {
    return hip_attn_read_kv_store_counters(&view_, &counters, call_stream.stream, message,
                                           capacity);
  });
  return counters;
}

namespace {

KvStorePlan make_kv_store_plan(const ConfigObject& config, std::int64_t num_kv_heads,
                               std::int64_t head_dim, std::int64_t max_seq_len,
                               std::int64_t max_requests, std::size_t budget_bytes,
                               nb::handle dtype, nb::handle device) {
  auto shape = zeroed<HipAttnKvStoreShape>();
  shape.device = device_of(device);
  shape.dtype = dtype_of("dtype", dtype);
  shape.max_requests = max_requests;
  shape.max_seq_len = max_seq_len;
  shape.num_kv_heads = num_kv_heads;
  shape.head_dim = head_dim;
  HipAttnKvStorePlan* plan = nullptr;
  check([&](char* message, std::size_t capacity) {
    return hip_attn_plan_kv_store(config.handle.get(), &shape, budget_bytes, &plan, message,
                                  capacity);
  });
  return {{plan, hip_attn_kv_store_plan_destroy}, shape.device};
}

std::string repr(const HipAttnKvStoreCounters& counters) {
  return "KvStoreCounters(hits=" + std::to_string(counters.hits) +
         ", misses=" + std::to_string(counters.misses) +
         ", evictions=" + std::to_string(counters.evictions) + ")";
}

}  // namespace

#define HIP_ATTN_ARRAY "hip_attn._typing.Array"
#define HIP_ATTN_MAYBE_ARRAY "hip_attn._typing.Array | None = None"
#define HIP_ATTN_STREAM "stream: hip_attn._typing.Stream | None = None"

void bind_offload(nb::module_& module) {
  using nb::arg;
  const nb::object none = nb::none();
  nb::class_<HostMemory>(module, "HostMemory",
                         R"(Host memory that a device reads and writes in place, zeroed.

nbytes: bytes. device: whose operators read it, "cpu" or "cuda:N", which pins it.

It is an array of uint8 by DLPack, so numpy.from_dlpack(memory) is a view of it, and pages() is the KV
cache of a layer in it. Arrays and pages keep the memory when this object goes.)")
      .def(nb::init<std::size_t, nb::handle>(), arg("nbytes"), arg("device") = "cpu",
           nb::sig("def __init__(self, nbytes: int, device: object = 'cpu') -> None"))
      .def_prop_ro("nbytes", &HostMemory::nbytes, "Bytes.")
      .def("pages", &HostMemory::pages, arg("num_kv_heads"), arg("head_dim"),
           arg("dtype") = "float16",
           nb::sig("def pages(self, num_kv_heads: int, head_dim: int, dtype: object = 'float16') "
                   "-> KvPages"),
           R"(As many pages of 8 tokens as fit, laid out [page, KV head, {K, V}, 8, D].

A store needs this layout; operators read and write it without one, too.)")
      .def(
          "release", &HostMemory::release, arg("nbytes"),
          R"(Gives back about nbytes from the end, at least a piece of 256 MiB, and returns what is left.

Terabytes take seconds; whoever cannot wait so long calls again later. Raises BufferError while arrays
or pages of the memory exist.)")
      .def("__dlpack__", &HostMemory::dlpack, nb::kw_only(), arg("stream").none() = none,
           arg("max_version").none() = none, arg("dl_device").none() = none,
           arg("copy").none() = none, nb::sig(HIP_ATTN_DLPACK_SIGNATURE))
      .def("__dlpack_device__", &HostMemory::dlpack_device);

  nb::class_<KvStorePlan>(module, "KvStorePlan", R"(For the stores of any number of layers.

plan_kv_store makes it.)")
      .def_prop_ro(
          "memory_bytes", [](const KvStorePlan& plan) { return plan.info().memory_bytes; },
          "Bytes of one store on the device; 0 on the CPU.")
      .def_prop_ro(
          "least_budget", [](const KvStorePlan& plan) { return plan.info().least_budget; },
          "Bytes that hold what one step of every request reads.")
      .def_prop_ro(
          "slots", [](const KvStorePlan& plan) { return plan.info().slots; },
          "Blocks that one request and KV head can have on the device.")
      .def_prop_ro(
          "device", [](const KvStorePlan& plan) { return device_text(plan.device); },
          "\"cpu\" or \"cuda:N\".");

  nb::class_<HipAttnKvStoreCounters>(module, "KvStoreCounters",
                                     "What a store has done since clear(), in blocks of a KV head.")
      .def_ro("hits", &HipAttnKvStoreCounters::hits,
              "Asked for when a search began anew or ahead, and on the device.")
      .def_ro("misses", &HipAttnKvStoreCounters::misses, "Copied to the device.")
      .def_ro("evictions", &HipAttnKvStoreCounters::evictions, "Taken off it to make room.")
      .def("__repr__", repr);

  nb::class_<KvStore>(module, "KvStore",
                      R"(What a device keeps of the cache of one layer in host memory.

plan: of plan_kv_store. memory: uint8 [at least plan.memory_bytes] on its device, which holds anything
until clear(); None: for a plan of the CPU, which needs none. rows: int32 [B], the row of the store's
table for each request of a call, 0 to max_requests - 1, each used once; None: row b. Stores of other
rows can share plan and memory.)")
      .def(nb::init<const KvStorePlan&, nb::handle, nb::handle>(), arg("plan"),
           arg("memory").none() = none, arg("rows").none() = none,
           nb::sig("def __init__(self, plan: KvStorePlan, memory: " HIP_ATTN_MAYBE_ARRAY
                   ", rows: " HIP_ATTN_MAYBE_ARRAY ") -> None"))
      .def("clear", &KvStore::clear, nb::kw_only(), arg("stream").none() = none,
           nb::sig("def clear(self, *, " HIP_ATTN_STREAM ") -> None"),
           "Empties it: no request has a page.")
      .def("bind", &KvStore::bind, arg("pages"), nb::kw_only(), arg("block_table").none(),
           arg("seq_lens").none(), arg("stream").none() = none,
           nb::sig("def bind(self, pages: KvPages, *, block_table: " HIP_ATTN_ARRAY
                   ", seq_lens: " HIP_ATTN_ARRAY ", " HIP_ATTN_STREAM ") -> None"),
           R"(Gives each request its row, when a request begins or its blocks are exchanged.

pages: HostMemory.pages(). block_table: int32 [B, columns], the page of each 8 tokens.
seq_lens: int32 [B], keys that each request has already.)")
      .def(
          "admit", &KvStore::admit, arg("pages"), arg("cache"), nb::kw_only(),
          arg("block_table").none(), arg("seq_lens").none(), arg("slots").none() = none,
          arg("stream").none() = none,
          nb::sig("def admit(self, pages: KvPages, cache: SelectionCache, *, "
                  "block_table: " HIP_ATTN_ARRAY ", seq_lens: " HIP_ATTN_ARRAY
                  ", slots: " HIP_ATTN_MAYBE_ARRAY ", " HIP_ATTN_STREAM ") -> None"),
          R"(Copies to the device what the last search of decode found, as append_kv with a cache does.

For a stream beside that of the model, between a decode of the layer and its next append.)")
      .def("counters", &KvStore::counters, nb::kw_only(), arg("stream").none() = none,
           nb::sig("def counters(self, *, " HIP_ATTN_STREAM ") -> KvStoreCounters"),
           "Waits for the stream. All are 0 on the CPU.");

  module.def("make_kv_store_plan", make_kv_store_plan, arg("config"), arg("num_kv_heads"),
             arg("head_dim"), arg("max_seq_len"), arg("max_requests"), arg("budget_bytes"),
             arg("dtype"), arg("device"));
}

}  // namespace hip_attn::python
