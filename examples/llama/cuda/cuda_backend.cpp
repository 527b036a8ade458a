#include "cuda_backend.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "check.hpp"
#include "graph_recording.hpp"
#include "hip_attn/build_info.hpp"
#include "kernels.hpp"
#include "part_clock.hpp"

namespace llama {
namespace {

/// What NVIDIA recommends for Hopper. Ours rather than cuBLAS's own, which a graph could not rely
/// on.
constexpr std::size_t kCublasWorkspaceBytes = std::size_t{32} << 20;

class CudaStream {
 public:
  CudaStream() { LLAMA_CUDA_CALL(cudaStreamCreateWithFlags, &stream_, cudaStreamNonBlocking); }
  CudaStream(const CudaStream&) = delete;
  ~CudaStream() { static_cast<void>(cudaStreamDestroy(stream_)); }
  [[nodiscard]] cudaStream_t get() const noexcept { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

class CudaEvent {
 public:
  CudaEvent() { LLAMA_CUDA_CALL(cudaEventCreateWithFlags, &event_, cudaEventDisableTiming); }
  CudaEvent(const CudaEvent&) = delete;
  ~CudaEvent() { static_cast<void>(cudaEventDestroy(event_)); }

  /// What comes next on `to` comes behind what is on `from`.
  void order(cudaStream_t from, cudaStream_t to) {
    LLAMA_CUDA_CALL(cudaEventRecord, event_, from);
    LLAMA_CUDA_CALL(cudaStreamWaitEvent, to, event_, 0u);
  }

 private:
  cudaEvent_t event_ = nullptr;
};

class CublasHandle {
 public:
  CublasHandle() { LLAMA_CUBLAS_CALL(cublasCreate, &handle_); }
  CublasHandle(const CublasHandle&) = delete;
  ~CublasHandle() { static_cast<void>(cublasDestroy(handle_)); }
  [[nodiscard]] cublasHandle_t get() const noexcept { return handle_; }

 private:
  cublasHandle_t handle_ = nullptr;
};

cudaDataType_t cuda_type(hip_attn::ElementType type) {
  switch (type) {
    case hip_attn::ElementType::kFloat16:
      return CUDA_R_16F;
    case hip_attn::ElementType::kBFloat16:
      return CUDA_R_16BF;
    case hip_attn::ElementType::kFloat32:
      break;
  }
  return CUDA_R_32F;
}

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(hip_attn::ElementType type)
      : Backend(hip_attn::cuda_device(), type), clock_(stream_.get()) {
    cublas_workspace_ = allocate(kCublasWorkspaceBytes);
    LLAMA_CUBLAS_CALL(cublasSetStream, cublas_.get(), stream_.get());
    // After the stream, which resets it.
    LLAMA_CUBLAS_CALL(cublasSetWorkspace, cublas_.get(), cublas_workspace_, kCublasWorkspaceBytes);
    // Partial sums of a split product are float32 too.
    LLAMA_CUBLAS_CALL(cublasSetMathMode, cublas_.get(),
                      static_cast<cublasMath_t>(CUBLAS_DEFAULT_MATH |
                                                CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION));
  }
  ~CudaBackend() override { release(cublas_workspace_); }

  [[nodiscard]] std::string description() const override {
    cudaDeviceProp properties{};
    LLAMA_CUDA_CALL(cudaGetDeviceProperties, &properties, device().index);
    return fmt::format("{}, {}", properties.name, to_string(activation_type()));
  }
  [[nodiscard]] hip_attn::Stream stream() const noexcept override { return stream_.get(); }

  void* allocate(std::size_t bytes) override {
    void* memory = nullptr;
    LLAMA_CUDA_CALL(cudaMalloc, &memory, std::max<std::size_t>(bytes, 1));
    LLAMA_CUDA_CALL(cudaMemsetAsync, memory, 0, bytes, stream_.get());
    return memory;
  }
  void release(void* memory) noexcept override { static_cast<void>(cudaFree(memory)); }
  void upload(void* to, const void* from, std::size_t bytes) override {
    // CUDA copies from pageable memory before it returns.
    LLAMA_CUDA_CALL(cudaMemcpyAsync, to, from, bytes, cudaMemcpyHostToDevice, stream_.get());
  }
  void download(void* to, const void* from, std::size_t bytes) override {
    LLAMA_CUDA_CALL(cudaMemcpyAsync, to, from, bytes, cudaMemcpyDeviceToHost, stream_.get());
    synchronize();
  }
  void synchronize() override { clock_.synchronize(); }

  std::unique_ptr<Recording> make_recording() override {
    return std::make_unique<GraphRecording>(stream_.get(), clock_);
  }

  void run_beside(const std::function<void(hip_attn::Stream)>& work) override {
    fork_.order(stream_.get(), beside_.get());
    work(beside_.get());
    is_beside_ = true;
  }
  void meet() override {
    if (is_beside_) join_.order(beside_.get(), stream_.get());
    is_beside_ = false;
  }

  void begin(Part part) override { clock_.begin(part); }
  PartTimes times() override {
    synchronize();
    return clock_.times();
  }

 private:
  void gather_rows(const Tensor& table, const std::int32_t* rows, const Tensor& out) override {
    launch_gather_rows(table, rows, out, stream_.get());
  }

  void multiply(const Tensor& x, const Tensor& weight, const Tensor& y, bool accumulate) override {
    if (x.rows == 0) return;
    const float alpha = 1.f;
    const float beta = accumulate ? 1.f : 0.f;
    // cuBLAS stores matrices by columns: to it the memory of y is that of y^T = weight * x^T.
    const auto outputs = static_cast<int>(weight.rows);
    const auto inputs = static_cast<int>(weight.cols);
    LLAMA_CUBLAS_CALL(cublasGemmEx, cublas_.get(), CUBLAS_OP_T, CUBLAS_OP_N, outputs,
                      static_cast<int>(x.rows), inputs, &alpha, weight.data, cuda_type(weight.type),
                      inputs, x.data, cuda_type(x.type), inputs, &beta, y.data, cuda_type(y.type),
                      outputs, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
  }

  void normalize(const Tensor& x, const Tensor& gain, float eps, const Tensor& y) override {
    launch_rms_norm(x, gain, eps, y, stream_.get());
  }
  void fill_rotary_table(const std::int32_t* positions, const Tensor& frequencies,
                         const Tensor& table) override {
    launch_rotary_table(positions, frequencies, table, stream_.get());
  }
  void apply_rotary_table(const Tensor& table, const Tensor& x) override {
    launch_rotate(table, x, stream_.get());
  }
  void activate(const Tensor& gate, const Tensor& up) override {
    launch_swiglu(gate, up, stream_.get());
  }
  void score_targets(const Tensor& logits, const std::int32_t* targets, double* out) override {
    launch_score_targets(logits, targets, out, stream_.get());
  }

  CudaStream stream_;
  CudaStream beside_;
  CudaEvent fork_;
  CudaEvent join_;
  bool is_beside_ = false;  ///< something runs beside, which stream_ has not met
  CublasHandle cublas_;
  void* cublas_workspace_ = nullptr;
  CudaPartClock clock_;
};

}  // namespace

hip_attn::Status check_cuda() { return hip_attn::check_device(hip_attn::cuda_device()); }

std::unique_ptr<Backend> make_cuda_backend(hip_attn::ElementType type) {
  LLAMA_CUDA_CALL(cudaSetDevice, hip_attn::cuda_device().index);
  return std::make_unique<CudaBackend>(type);
}

}  // namespace llama
