/// The cache of a layer in host memory, and what a device keeps of it.
#pragma once

#include "memory.hpp"

namespace hip_attn::python {

/// What exported arrays share with their HostMemory: it is given back when the last of them goes.
struct HostBytes {
  HostMemoryHandle handle;
  DLDevice device = {kDLCPU, 0};  ///< as a tensor in this memory states it
};

class HostMemory {
 public:
  HostMemory(std::size_t nbytes, nb::handle device);

  [[nodiscard]] std::size_t nbytes() const noexcept {
    return hip_attn_host_memory_size(bytes_->handle.get());
  }
  std::size_t release(std::size_t nbytes);

  [[nodiscard]] nb::object dlpack(nb::handle stream, nb::handle max_version, nb::handle dl_device,
                                  nb::handle copy) const;
  [[nodiscard]] std::tuple<int, int> dlpack_device() const;
  [[nodiscard]] KvPages pages(std::int64_t num_kv_heads, std::int64_t head_dim,
                              nb::handle dtype) const;

 private:
  std::shared_ptr<HostBytes> bytes_;
};

struct KvStorePlan {
  std::shared_ptr<const HipAttnKvStorePlan> handle;
  DLDevice device = {kDLCPU, 0};

  [[nodiscard]] HipAttnKvStorePlanInfo info() const {
    auto info = zeroed<HipAttnKvStorePlanInfo>();
    check([&](char* message, std::size_t capacity) {
      return hip_attn_kv_store_plan_info(handle.get(), &info, message, capacity);
    });
    return info;
  }
};

class KvStore {
 public:
  KvStore(const KvStorePlan& plan, nb::handle memory, nb::handle rows);

  [[nodiscard]] const HipAttnKvStore& view() const noexcept { return view_; }
  void clear(nb::handle stream) const;
  void bind(const KvPages& pages, nb::handle block_table, nb::handle seq_lens,
            nb::handle stream) const;
  void admit(const KvPages& pages, const SelectionCache& cache, nb::handle block_table,
             nb::handle seq_lens, nb::handle slots, nb::handle stream) const;
  [[nodiscard]] HipAttnKvStoreCounters counters(nb::handle stream) const;

 private:
  std::shared_ptr<const HipAttnKvStorePlan> plan_;
  DLDevice device_;
  nb::object memory_object_;
  Array memory_;
  Array rows_;
  HipAttnKvStore view_ = zeroed<HipAttnKvStore>();
};

}  // namespace hip_attn::python
