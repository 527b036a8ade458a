#include "memory.hpp"

#include <algorithm>
#include <cstring>

namespace hip_attn::python {
namespace {

bool is_dense(const DLTensor& tensor) {
  if (tensor.strides == nullptr) return true;
  std::int64_t expected = 1;
  for (int i = tensor.ndim - 1; i >= 0; --i) {
    if (tensor.shape[i] != 1 && tensor.strides[i] != expected) return false;
    expected *= tensor.shape[i];
  }
  return true;
}

std::size_t bytes_of(const DLTensor& tensor) {
  std::size_t bytes = tensor.dtype.bits / 8u * tensor.dtype.lanes;
  for (int i = 0; i < tensor.ndim; ++i) bytes *= static_cast<std::size_t>(tensor.shape[i]);
  return bytes;
}

}  // namespace

Workspace::Workspace(nb::handle size_or_array) {
  if (nb::isinstance<nb::int_>(size_or_array)) {
    if (!nb::try_cast(size_or_array, nbytes_)) {
      throw nb::value_error("a workspace has 0 bytes or more");
    }
    // A call without a workspace is refused, even one that needs no bytes.
    memory_ = AlignedMemory(std::max<std::size_t>(nbytes_, 1));
    data_ = memory_.data();
    return;
  }
  array_ = Array("workspace", size_or_array, Access::kWrite);
  const DLTensor* const tensor = array_.get();
  if (tensor == nullptr) throw nb::type_error("workspace is None; it must be a size or an array");
  if (!is_dense(*tensor)) raise("InvalidStride", "workspace has gaps; it must be contiguous");
  data_ = static_cast<std::byte*>(tensor->data) + tensor->byte_offset;
  nbytes_ = bytes_of(*tensor);
  device_ = tensor->device;
}

void Workspace::require_on(DLDevice device) const {
  const bool is_cpu = device.device_type == kDLCPU;
  const auto type = device_.device_type;
  // Pinned and managed memory is the host's and the GPU's alike.
  if (type == kDLCUDAHost || type == kDLCUDAManaged) return;
  if (is_cpu ? type == kDLCPU : type == kDLCUDA && device_.device_id == device.device_id) return;
  raise("InvalidArgument",
        "workspace is on another device than the plan, which is for " + device_text(device));
}

void KvPages::require_writable() const {
  k_.require_writable("pages.k");
  v_.require_writable("pages.v");
}

LandmarkLevel::LandmarkLevel(std::int64_t chunk_size, nb::handle rows, nb::handle block_table)
    : rows_("rows", rows, Access::kRead), block_table_("block_table", block_table, Access::kRead) {
  view_.chunk_size = chunk_size;
  view_.rows = rows_.get();
  view_.block_table = block_table_.get();
}

Landmarks::Landmarks(nb::iterable levels, std::optional<float> spread) : spread_(spread) {
  for (nb::handle level : levels) {
    if (!nb::isinstance<LandmarkLevel>(level)) {
      throw nb::type_error("levels must be hip_attn.LandmarkLevel objects");
    }
    levels_.push_back(nb::cast<const LandmarkLevel&>(level).view());
    objects_.push_back(nb::borrow(level));
  }
  view_.num_levels = static_cast<std::int64_t>(levels_.size());
  view_.levels = levels_.data();
  view_.spread = spread_ ? &*spread_ : nullptr;
}

void Landmarks::require_writable() const {
  for (const nb::object& level : objects_) {
    nb::cast<const LandmarkLevel&>(level).require_writable();
  }
}

Selection::Selection(nb::handle blocks, nb::handle counts, nb::handle window_start)
    : arrays_{Array("blocks", blocks, Access::kRead), Array("counts", counts, Access::kRead),
              Array("window_start", window_start, Access::kRead)} {
  view_.blocks = arrays_[0].get();
  view_.counts = arrays_[1].get();
  view_.window_start = arrays_[2].get();
}

void Selection::require_writable(const char* const (&names)[3]) const {
  for (std::size_t i = 0; i < 3; ++i) arrays_[i].require_writable(names[i]);
}

SelectionCache::SelectionCache(const Plan& plan, std::int64_t num_slots, nb::handle data) {
  view_.num_slots = num_slots;
  if (!data.is_none()) {
    array_ = Array("cache.data", data, Access::kWrite);
    view_.data = array_.get();
    return;
  }
  if (plan.device.device_type != kDLCPU) {
    throw nb::type_error("data is None; on a GPU it must be an array of zeros on the device");
  }
  if (num_slots < 0) throw nb::value_error("num_slots is negative");
  const std::size_t bytes =
      static_cast<std::size_t>(num_slots) * plan.info().selection_cache_slot_bytes;
  memory_ = AlignedMemory(std::max<std::size_t>(bytes, 1));
  std::memset(memory_.data(), 0, bytes);
  shape_[0] = static_cast<std::int64_t>(bytes);
  own_.data = memory_.data();
  own_.device = plan.device;
  own_.ndim = 1;
  own_.dtype = {kDLUInt, 8, 1};
  own_.shape = shape_;
  view_.data = &own_;
}

void bind_memory(nb::module_& module) {
  nb::class_<Workspace>(module, "Workspace", R"(Scratch memory of calls, one call at a time.

size_or_array: bytes to allocate on the CPU, or a contiguous array of any dtype on the plan's device
(such as torch.empty(plan.workspace_bytes, dtype=torch.uint8, device="cuda")). The largest
workspace_bytes of several plans serves all of them. Two calls that overlap, on two threads or two
streams, need a workspace each.)")
      .def(nb::init<nb::handle>(), nb::arg("size_or_array"),
           nb::sig("def __init__(self, size_or_array: int | hip_attn._typing.Array) -> None"))
      .def_prop_ro("nbytes", &Workspace::nbytes, "Bytes.");

  nb::class_<KvPages>(module, "KvPages", R"(The KV cache of one layer.

k, v: [num_pages, page_size, Hk, D] of the cache's dtype, with any strides but of D: NHD and HND
differ in strides alone. A contiguous cache is one page per request. The arrays stay alive with this
object, and calls see what is written into them later.)")
      .def(nb::init<nb::handle, nb::handle>(), nb::arg("k").none(), nb::arg("v").none(),
           nb::sig("def __init__(self, k: hip_attn._typing.Array, v: hip_attn._typing.Array) -> "
                   "None"))
      .def_prop_ro("num_pages", &KvPages::num_pages, "Pages of k.");

  nb::class_<LandmarkLevel>(module, "LandmarkLevel", R"(The landmarks of chunks of one size.

chunk_size: tokens, a power of two. rows: [num_pages, landmarks_per_page, Hk, 2, D] of the cache's
dtype. block_table: int32 [B, max_pages], the page of each request's landmarks; None: request b owns
page b.)")
      .def(nb::init<std::int64_t, nb::handle, nb::handle>(), nb::arg("chunk_size"),
           nb::arg("rows").none(), nb::arg("block_table").none() = nb::none(),
           nb::sig("def __init__(self, chunk_size: int, rows: hip_attn._typing.Array, "
                   "block_table: hip_attn._typing.Array | None = None) -> None"));

  nb::class_<Landmarks>(module, "Landmarks", R"(The landmarks of one layer's cache.

levels: LandmarkLevels, chunk sizes ascending; Config.landmark_chunk_sizes() says which a config
needs. spread: 0 to 1, from the mean of a chunk's keys to their bounds; None: the default, 0.5.)")
      .def(nb::init<nb::iterable, std::optional<float>>(), nb::arg("levels"),
           nb::arg("spread") = nb::none(),
           nb::sig("def __init__(self, levels: collections.abc.Iterable[LandmarkLevel], spread: "
                   "float | None = None) -> None"));

  nb::class_<Selection>(module, "Selection", R"(The key blocks that each row and KV head attends to.

blocks: int32 [rows, Hk, at least Plan.max_selected_blocks], ascending. counts: int32 [rows, Hk].
window_start: int32 [rows, Hk], the first key of the window. rows: Plan.selection_rows or what the
call needs. decode: row b is request b; prefill: see selection_row.)")
      .def(nb::init<nb::handle, nb::handle, nb::handle>(), nb::arg("blocks").none(),
           nb::arg("counts").none(), nb::arg("window_start").none(),
           nb::sig("def __init__(self, blocks: hip_attn._typing.Array, counts: "
                   "hip_attn._typing.Array, window_start: hip_attn._typing.Array) -> None"));

  nb::class_<SelectionCache>(module, "SelectionCache",
                             R"(Decode's memory between steps, one layer's.

num_slots: requests that it holds. data: zeroed uint8 [num_slots * Plan.selection_cache_slot_bytes]
on the plan's device; None: allocated, for a plan of the CPU.)")
      .def(nb::init<const Plan&, std::int64_t, nb::handle>(), nb::arg("plan"), nb::arg("num_slots"),
           nb::arg("data").none() = nb::none(),
           nb::sig("def __init__(self, plan: Plan, num_slots: int, data: hip_attn._typing.Array | "
                   "None = None) -> None"));
}

}  // namespace hip_attn::python
