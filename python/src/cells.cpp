#include <bit>
#include <memory>
#include <mutex>
#include <utility>

#include "export.hpp"
#include "handles.hpp"

namespace hip_attn::python {
namespace {

using Ints = std::vector<std::int32_t>;

// Numbers that this module made, as an array.
struct HostArray {
  std::shared_ptr<Ints> numbers;
  std::vector<std::int64_t> shape;

  [[nodiscard]] OwnedTensor tensor() const {
    std::vector<std::int64_t> strides(shape.size(), 1);
    for (std::size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
    return {numbers, numbers->data(), {kDLCPU, 0}, {kDLInt, 32, 1}, shape, std::move(strides)};
  }
  [[nodiscard]] nb::object dlpack(nb::handle /*stream*/, nb::handle max_version,
                                  nb::handle dl_device, nb::handle copy) const {
    return dlpack_capsule(tensor(), max_version, dl_device, copy);
  }
};

// Calls on one object come one after another, whatever threads do.
struct Cells {
  CellsHandle handle;
  std::mutex mutex;
};

std::string dtype_text(DLDataType dtype) {
  const char* const kind = dtype.code == kDLInt     ? "int"
                           : dtype.code == kDLUInt  ? "uint"
                           : dtype.code == kDLFloat ? "float"
                                                    : "of another kind, bits: ";
  return kind + std::to_string(dtype.bits);
}

enum class Presence { kRequired, kOptional };

// An argument of the host's memory: [n] numbers of type T, one behind the other.
template <typename T>
class HostList {
 public:
  HostList(const char* name, nb::handle object, Presence presence = Presence::kRequired)
      : name_(name), array_(name, object, Access::kRead) {
    const DLTensor* const tensor = array_.get();
    const std::string text = name;
    const std::string dtype = "int" + std::to_string(8 * sizeof(T));
    if (tensor == nullptr) {
      if (presence == Presence::kOptional) return;
      raise("NullPointer", text + " is None; it must be an array of " + dtype);
    }
    if (tensor->ndim != 1) {
      raise("InvalidArgument",
            text + ".ndim is " + std::to_string(tensor->ndim) + "; it must be 1");
    }
    if (tensor->dtype.code != kDLInt || tensor->dtype.bits != 8 * sizeof(T) ||
        tensor->dtype.lanes != 1) {
      raise("InvalidArgument",
            text + ".dtype is " + dtype_text(tensor->dtype) + "; it must be " + dtype);
    }
    const auto device = tensor->device.device_type;
    if (device != kDLCPU && device != kDLCUDAHost && device != kDLCUDAManaged) {
      raise("InvalidArgument", text + " is on a device; it must be in the host's memory");
    }
    if (tensor->strides != nullptr && tensor->shape[0] > 1 && tensor->strides[0] != 1) {
      raise("InvalidStride", text + " has gaps; it must be contiguous");
    }
  }

  [[nodiscard]] const T* data() const noexcept {
    const DLTensor* const tensor = array_.get();
    if (tensor == nullptr || tensor->data == nullptr) return nullptr;
    return reinterpret_cast<const T*>(static_cast<const std::byte*>(tensor->data) +
                                      tensor->byte_offset);
  }
  [[nodiscard]] std::int64_t size() const noexcept {
    return array_.get() == nullptr ? 0 : array_.get()->shape[0];
  }
  template <typename Other>
  void require_as_long_as(const HostList<Other>& other) const {
    if (array_.get() == nullptr || size() == other.size()) return;
    raise("InvalidShape", std::string(name_) + ".shape[0] is " + std::to_string(size()) +
                              "; it must be " + std::to_string(other.size()) + ", as of " +
                              other.name());
  }
  [[nodiscard]] const char* name() const noexcept { return name_; }

 private:
  const char* name_;
  Array array_;
};

HostArray copy_of(const DLTensor& tensor) {
  HostArray made;
  made.shape.assign(tensor.shape, tensor.shape + tensor.ndim);
  std::int64_t size = 1;
  for (const std::int64_t extent : made.shape) size *= extent;
  const auto* const first = static_cast<const std::int32_t*>(tensor.data);
  made.numbers = std::make_shared<Ints>(first, first + size);
  return made;
}

// The members of hip_attn.CellRequests.
using Requests = std::tuple<HostArray, HostArray, HostArray, HostArray, HostArray,
                            std::optional<HostArray>, bool, bool>;

Requests requests(Cells& cells, nb::handle key_sequences, nb::handle key_positions,
                  nb::handle key_pages, nb::handle row_sequences, nb::handle row_positions,
                  nb::handle row_first, std::int64_t window, bool keep_order,
                  const ConfigObject* config) {
  const HostList<std::int32_t> sequences_of_keys("key_sequences", key_sequences);
  const HostList<std::int64_t> positions_of_keys("key_positions", key_positions);
  const HostList<std::int32_t> pages_of_keys("key_pages", key_pages);
  const HostList<std::int32_t> sequences_of_rows("row_sequences", row_sequences);
  const HostList<std::int64_t> positions_of_rows("row_positions", row_positions);
  const HostList<std::int64_t> firsts_of_rows("row_first", row_first, Presence::kOptional);
  sequences_of_keys.require_as_long_as(pages_of_keys);
  positions_of_keys.require_as_long_as(pages_of_keys);
  positions_of_rows.require_as_long_as(sequences_of_rows);
  firsts_of_rows.require_as_long_as(sequences_of_rows);

  auto batch = zeroed<HipAttnCellBatch>();
  batch.num_keys = pages_of_keys.size();
  batch.key_sequences = sequences_of_keys.data();
  batch.key_positions = positions_of_keys.data();
  batch.key_pages = pages_of_keys.data();
  batch.num_rows = sequences_of_rows.size();
  batch.row_sequences = sequences_of_rows.data();
  batch.row_positions = positions_of_rows.data();
  batch.row_first = firsts_of_rows.data();
  batch.window = window;
  batch.keep_order = keep_order ? 1 : 0;
  batch.config = config != nullptr ? config->handle.get() : nullptr;
  Requests made;
  check_without_gil([&](char* message, std::size_t capacity) {
    const std::scoped_lock lock(cells.mutex);
    auto known = zeroed<HipAttnCellRequests>();
    const HipAttnStatus status =
        hip_attn_cells_requests(cells.handle.get(), &batch, &known, message, capacity);
    if (status != HIP_ATTN_OK) return status;
    // What the handle lends is its own until the next call.
    made = {
        copy_of(*known.seq_lens),
        copy_of(*known.cu_seqlens_q),
        copy_of(*known.block_table),
        copy_of(*known.rows),
        copy_of(*known.sequences),
        known.refresh_from != nullptr ? std::optional(copy_of(*known.refresh_from)) : std::nullopt,
        known.in_order != 0,
        known.decode != 0};
    return status;
  });
  return made;
}

std::string repr(const HostArray& array) {
  std::string text = "<hip_attn.HostArray of int32 [";
  for (std::size_t i = 0; i < array.shape.size(); ++i) {
    text += (i > 0 ? ", " : "") + std::to_string(array.shape[i]);
  }
  return text + "]>";
}

// numpy.asarray() takes it, without a copy.
nb::dict array_interface(const HostArray& array) {
  nb::dict made;
  made["version"] = 3;
  made["typestr"] = std::endian::native == std::endian::little ? "<i4" : ">i4";
  made["data"] = nb::make_tuple(reinterpret_cast<std::uintptr_t>(array.numbers->data()), false);
  nb::list shape;
  for (const std::int64_t extent : array.shape) shape.append(extent);
  made["shape"] = nb::tuple(shape);
  return made;
}

}  // namespace

void bind_cells(nb::module_& module) {
  using nb::arg;
  const nb::object none = nb::none();
  nb::class_<HostArray>(module, "HostArray",
                        R"(int32 numbers in the host's memory, an array by DLPack.

numpy.asarray(array) and torch.from_dlpack(array) share its memory and keep it.)")
      .def_prop_ro(
          "shape", [](const HostArray& array) { return nb::tuple(nb::cast(array.shape)); },
          nb::for_getter(nb::sig("def shape(self, /) -> tuple[int, ...]")), "The sizes.")
      .def_prop_ro("__array_interface__", array_interface,
                   nb::for_getter(nb::sig("def __array_interface__(self, /) -> dict[str, object]")),
                   "For numpy.asarray().")
      .def("__dlpack__", &HostArray::dlpack, nb::kw_only(), arg("stream").none() = none,
           arg("max_version").none() = none, arg("dl_device").none() = none,
           arg("copy").none() = none, nb::sig(HIP_ATTN_DLPACK_SIGNATURE))
      .def("__dlpack_device__", [](const HostArray&) { return std::tuple<int, int>(kDLCPU, 0); })
      .def("__repr__", repr);

  nb::class_<Cells>(module, "CellsHandle", "What a hip_attn.Cells holds.")
      .def("__init__",
           [](Cells* self) {
             HipAttnCells* cells = nullptr;
             check([&](char* message, std::size_t capacity) {
               return hip_attn_cells_create(&cells, message, capacity);
             });
             new (self) Cells{CellsHandle(cells), {}};
           })
      .def("requests", requests, arg("key_sequences").none(), arg("key_positions").none(),
           arg("key_pages").none(), arg("row_sequences").none(), arg("row_positions").none(),
           arg("row_first").none(), arg("window"), arg("keep_order"), arg("config").none())
      .def(
          "forget",
          [](Cells& cells, std::int32_t sequence) {
            const nb::gil_scoped_release release;
            const std::scoped_lock lock(cells.mutex);
            hip_attn_cells_forget(cells.handle.get(), sequence);
          },
          arg("sequence"));
}

}  // namespace hip_attn::python
