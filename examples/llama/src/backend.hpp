/// Where a model runs: memory, the arithmetic of a Llama block, and what it cost. cpu_backend.cpp
/// and cuda/cuda_backend.cpp implement it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "hip_attn/types.hpp"
#include "part_times.hpp"
#include "tensor.hpp"

namespace llama {

/// Work that is enqueued in the same way every time: same shapes, same addresses, other contents.
/// A GPU records it once and then launches it as one.
class Recording {
 public:
  virtual ~Recording() = default;
  virtual void run(const std::function<void()>& work) = 0;
};

/// Operations are enqueued in order and may return before they are done. Tensors and other pointers
/// are in the backend's memory. Activations and weights are of activation_type(), but for the sums
/// that run through all blocks and the gains of the norms, which are float32.
class Backend {
 public:
  Backend(hip_attn::Device device, hip_attn::ElementType activation_type)
      : device_(device), activation_type_(activation_type) {}
  Backend(const Backend&) = delete;
  virtual ~Backend() = default;

  [[nodiscard]] hip_attn::Device device() const noexcept { return device_; }
  [[nodiscard]] hip_attn::ElementType activation_type() const noexcept { return activation_type_; }
  /// "NVIDIA H200, bfloat16"
  [[nodiscard]] virtual std::string description() const = 0;
  /// Where hip_attn is to enqueue its work.
  [[nodiscard]] virtual hip_attn::Stream stream() const noexcept { return nullptr; }

  /// Zeroed, aligned to 64 bytes.
  virtual void* allocate(std::size_t bytes) = 0;
  virtual void release(void* memory) noexcept = 0;
  /// `from` is host memory that the caller may change again at once.
  virtual void upload(void* to, const void* from, std::size_t bytes) = 0;
  /// Waits until `to`, host memory, is written.
  virtual void download(void* to, const void* from, std::size_t bytes) = 0;
  virtual void synchronize() = 0;

  /// x row i = table row rows[i].
  void embed(const Tensor& table, const std::int32_t* rows, const Tensor& x) {
    begin(Part::kEmbedding);
    gather_rows(table, rows, x);
  }
  /// y = x * weight^T; weight is [outputs, inputs], as checkpoints store it.
  void linear(const Tensor& x, const Tensor& weight, const Tensor& y) {
    begin(Part::kLinear);
    multiply(x, weight, y, /*accumulate=*/false);
  }
  /// sum += x * weight^T
  void add_linear(const Tensor& x, const Tensor& weight, const Tensor& sum) {
    begin(Part::kLinear);
    multiply(x, weight, sum, /*accumulate=*/true);
  }
  /// y = x / rms(x) * gain, row by row.
  void rms_norm(const Tensor& x, const Tensor& gain, float eps, const Tensor& y) {
    begin(Part::kElementwise);
    normalize(x, gain, eps, y);
  }
  /// table [rows, head_dim] = the cosines, then the sines of positions[row] * frequencies.
  void rotary_table(const std::int32_t* positions, const Tensor& frequencies, const Tensor& table) {
    begin(Part::kElementwise);
    fill_rotary_table(positions, frequencies, table);
  }
  /// Turns x [rows, heads * head_dim] in place. Dimensions i and i + head_dim / 2 are a pair, as in
  /// Hugging Face checkpoints.
  void rotate(const Tensor& table, const Tensor& x) {
    begin(Part::kElementwise);
    apply_rotary_table(table, x);
  }
  /// gate = silu(gate) * up
  void swiglu(const Tensor& gate, const Tensor& up) {
    begin(Part::kElementwise);
    activate(gate, up);
  }
  /// logits (float32) = hidden * weight^T
  void logits(const Tensor& hidden, const Tensor& weight, const Tensor& logits) {
    begin(Part::kLogits);
    multiply(hidden, weight, logits, /*accumulate=*/false);
  }
  /// out[i] = -log softmax(logits row i)[targets[i]]
  void negative_log_likelihood(const Tensor& logits, const std::int32_t* targets, double* out) {
    begin(Part::kLogits);
    score_targets(logits, targets, out);
  }
  /// y row i = x row rows[i].
  void select_rows(const Tensor& x, const std::int32_t* rows, const Tensor& y) {
    begin(Part::kLogits);
    gather_rows(x, rows, y);
  }

  virtual std::unique_ptr<Recording> make_recording() = 0;

  /// Work behind what has been enqueued so far and beside what follows, on the stream that it is
  /// given.
  virtual void run_beside(const std::function<void(hip_attn::Stream)>& work) { work(stream()); }
  /// What follows comes behind all work that ran beside.
  virtual void meet() {}

  /// What is enqueued from here on belongs to `part`; a pass ends with kOther.
  virtual void begin(Part part) = 0;
  /// Of everything so far; waits for it.
  virtual PartTimes times() = 0;

 protected:
  virtual void gather_rows(const Tensor& table, const std::int32_t* rows, const Tensor& out) = 0;
  virtual void multiply(const Tensor& x, const Tensor& weight, const Tensor& y,
                        bool accumulate) = 0;
  virtual void normalize(const Tensor& x, const Tensor& gain, float eps, const Tensor& y) = 0;
  virtual void fill_rotary_table(const std::int32_t* positions, const Tensor& frequencies,
                                 const Tensor& table) = 0;
  virtual void apply_rotary_table(const Tensor& table, const Tensor& x) = 0;
  virtual void activate(const Tensor& gate, const Tensor& up) = 0;
  virtual void score_targets(const Tensor& logits, const std::int32_t* targets, double* out) = 0;

 private:
  hip_attn::Device device_;
  hip_attn::ElementType activation_type_;
};

}  // namespace llama
