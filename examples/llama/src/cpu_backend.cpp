#include "cpu_backend.hpp"

#include <cblas.h>
#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <new>

#include "hip_attn/build_info.hpp"

namespace llama {
namespace {

constexpr std::align_val_t kAlignment{64};

/// The library and this engine share one OpenMP team. OpenBLAS would wake a team of its own between
/// them, so each thread multiplies its own part with a single-threaded OpenBLAS instead.
void use_one_blas_thread() {
  static const bool done = (openblas_set_num_threads(1), true);
  (void)done;
}

class PlainRun final : public Recording {
 public:
  void run(const std::function<void()>& work) override { work(); }
};

class CpuBackend final : public Backend {
 public:
  CpuBackend() : Backend(hip_attn::kCpu, hip_attn::ElementType::kFloat32) {}

  [[nodiscard]] std::string description() const override {
    return fmt::format("CPU ({}), {} threads, float32", hip_attn::cpu_instruction_set(),
                       omp_get_max_threads());
  }

  void* allocate(std::size_t bytes) override {
    void* memory = ::operator new(bytes, kAlignment);
    std::memset(memory, 0, bytes);
    return memory;
  }
  void release(void* memory) noexcept override { ::operator delete(memory, kAlignment); }
  void upload(void* to, const void* from, std::size_t bytes) override {
    std::memcpy(to, from, bytes);
  }
  void download(void* to, const void* from, std::size_t bytes) override {
    std::memcpy(to, from, bytes);
  }
  void synchronize() override {}

  std::unique_ptr<Recording> make_recording() override { return std::make_unique<PlainRun>(); }

  void begin(Part part) override {
    const auto now = Clock::now();
    times_.add(part_, std::chrono::duration<double>(now - since_).count());
    part_ = part;
    since_ = now;
  }
  PartTimes times() override {
    begin(part_);
    return times_;
  }

 private:
  using Clock = std::chrono::steady_clock;

  void gather_rows(const Tensor& table, const std::int32_t* rows, const Tensor& out) override {
    for (std::int64_t i = 0; i < out.rows; ++i) {
      std::copy_n(table.as<float>() + rows[i] * table.cols, table.cols,
                  out.as<float>() + i * table.cols);
    }
  }

  void multiply(const Tensor& x, const Tensor& weight, const Tensor& y, bool accumulate) override {
    use_one_blas_thread();
    // Many rows are shared out among the threads; few rows, the outputs of each.
    const bool by_row = x.rows >= 16 * omp_get_max_threads();
    const std::int64_t total = by_row ? x.rows : weight.rows;
#pragma omp parallel
    {
      const std::int64_t thread = omp_get_thread_num();
      const std::int64_t threads = omp_get_num_threads();
      const std::int64_t begin = total * thread / threads;
      const std::int64_t end = total * (thread + 1) / threads;
      const std::int64_t first_row = by_row ? begin : 0;
      const std::int64_t num_rows = by_row ? end - begin : x.rows;
      const std::int64_t first_out = by_row ? 0 : begin;
      const std::int64_t num_out = by_row ? weight.rows : end - begin;
      if (begin < end) {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(num_rows),
                    static_cast<int>(num_out), static_cast<int>(weight.cols), 1.f,
                    x.as<float>() + first_row * weight.cols, static_cast<int>(weight.cols),
                    weight.as<float>() + first_out * weight.cols, static_cast<int>(weight.cols),
                    accumulate ? 1.f : 0.f, y.as<float>() + first_row * weight.rows + first_out,
                    static_cast<int>(weight.rows));
      }
    }
  }

  void normalize(const Tensor& x, const Tensor& gain, float eps, const Tensor& y) override {
    const std::int64_t size = x.cols;
#pragma omp parallel for
    for (std::int64_t row = 0; row < x.rows; ++row) {
      const float* in = x.as<float>() + row * size;
      float* out = y.as<float>() + row * size;
      float squares = 0.f;
#pragma omp simd reduction(+ : squares)
      for (std::int64_t i = 0; i < size; ++i) squares += in[i] * in[i];
      const float scale = 1.f / std::sqrt(squares / static_cast<float>(size) + eps);
      for (std::int64_t i = 0; i < size; ++i) out[i] = in[i] * scale * gain.as<float>()[i];
    }
  }

  void fill_rotary_table(const std::int32_t* positions, const Tensor& frequencies,
                         const Tensor& table) override {
    const std::int64_t half = frequencies.cols;
#pragma omp parallel for
    for (std::int64_t row = 0; row < table.rows; ++row) {
      float* cosines = table.as<float>() + row * 2 * half;
      for (std::int64_t i = 0; i < half; ++i) {
        const float angle = static_cast<float>(positions[row]) * frequencies.as<float>()[i];
        cosines[i] = std::cos(angle);
        cosines[half + i] = std::sin(angle);
      }
    }
  }

  void apply_rotary_table(const Tensor& table, const Tensor& x) override {
    const std::int64_t half = table.cols / 2;
#pragma omp parallel for
    for (std::int64_t row = 0; row < x.rows; ++row) {
      const float* cosines = table.as<float>() + row * 2 * half;
      const float* sines = cosines + half;
      for (std::int64_t head = 0; head < x.cols; head += 2 * half) {
        float* low = x.as<float>() + row * x.cols + head;
        float* high = low + half;
        for (std::int64_t i = 0; i < half; ++i) {
          const float turned = low[i] * cosines[i] - high[i] * sines[i];
          high[i] = high[i] * cosines[i] + low[i] * sines[i];
          low[i] = turned;
        }
      }
    }
  }

  void activate(const Tensor& gate, const Tensor& up) override {
    float* g = gate.as<float>();
    const float* u = up.as<float>();
#pragma omp parallel for simd
    for (std::int64_t i = 0; i < gate.size(); ++i) g[i] *= u[i] / (1.f + std::exp(-g[i]));
  }

  void score_targets(const Tensor& logits, const std::int32_t* targets, double* out) override {
#pragma omp parallel for
    for (std::int64_t row = 0; row < logits.rows; ++row) {
      const float* values = logits.as<float>() + row * logits.cols;
      const float largest = *std::max_element(values, values + logits.cols);
      double sum = 0.0;
      for (std::int64_t i = 0; i < logits.cols; ++i) sum += std::exp(values[i] - largest);
      out[row] = std::log(sum) + largest - values[targets[row]];
    }
  }

  PartTimes times_;
  Part part_ = Part::kOther;
  Clock::time_point since_ = Clock::now();
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend() { return std::make_unique<CpuBackend>(); }

}  // namespace llama
