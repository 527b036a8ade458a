#include <cuda_runtime.h>

#include "cuda_backend.hpp"
#include "head_dims.hpp"
#include "hip_attn/cuda/launch/kv_store.cuh"

namespace hip_attn::cuda {

Status clear_store(const KvStore& store, Stream stream) { return enqueue_clear(store, stream); }

Status bind_store(const BindKvStoreArgs& args, Stream stream) { return enqueue_bind(args, stream); }

Status read_counts(const KvStore& store, std::uint64_t (&counts)[kKvCounts], Stream stream) {
  const DeviceGuard guard(store.plan->shape.device);
  cudaError_t error = guard.error();
  const KvStoreLayout layout = kv_store_layout(*store.plan, static_cast<std::byte*>(store.memory));
  if (error == cudaSuccess) {
    error = cudaMemcpyAsync(counts, layout.counts, sizeof(counts), cudaMemcpyDeviceToHost, stream);
  }
  if (error == cudaSuccess) error = cudaStreamSynchronize(stream);
  return to_status(error, "read_kv_store_counters");
}

template <Element T>
Status admit_to_store(Device device, const AppendStore& of, const KvPages<const T>& pages,
                      Stream stream) {
  return visit_head_dim(pages.head_dim(), [&]<int kHeadDim>() {
    return enqueue_admission<kHeadDim>(device, of, pages, stream);
  });
}

template Status admit_to_store(Device, const AppendStore&, const KvPages<const float16>&, Stream);
template Status admit_to_store(Device, const AppendStore&, const KvPages<const bfloat16>&, Stream);

Status pin_host_memory(Device device, void* data, std::size_t bytes) {
  const DeviceGuard guard(device);
  cudaError_t error = guard.error();
  int in_place = 0;
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(&in_place, cudaDevAttrCanUseHostPointerForRegisteredMem,
                                   device.index);
  }
  if (error == cudaSuccess && !in_place) {
    return {StatusCode::kUnsupported,
            "device: this system does not let it use host memory by the host's own addresses"};
  }
  if (error == cudaSuccess) {
    error = cudaHostRegister(data, bytes, cudaHostRegisterPortable | cudaHostRegisterMapped);
  }
  return to_status(error, "HostMemory::allocate");
}

void unpin_host_memory(void* data) noexcept { static_cast<void>(cudaHostUnregister(data)); }

}  // namespace hip_attn::cuda
