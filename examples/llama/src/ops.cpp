#include "ops.hpp"

#include <cblas.h>
#include <omp.h>

#include <algorithm>
#include <cmath>

namespace llama {
namespace {

/// The library and this engine share one OpenMP team. OpenBLAS would wake a team of its own between
/// them, so each thread multiplies its own part with a single-threaded OpenBLAS instead.
void use_one_blas_thread() {
  static const bool done = (openblas_set_num_threads(1), true);
  (void)done;
}

}  // namespace

void linear(std::span<const float> x, const Matrix& weight, std::span<float> y, bool accumulate) {
  use_one_blas_thread();
  const std::int64_t rows = static_cast<std::int64_t>(x.size()) / weight.cols;
  // Many rows are shared out among the threads; few rows, the outputs of each.
  const bool by_row = rows >= 16 * omp_get_max_threads();
  const std::int64_t total = by_row ? rows : weight.rows;
#pragma omp parallel
  {
    const std::int64_t thread = omp_get_thread_num();
    const std::int64_t threads = omp_get_num_threads();
    const std::int64_t begin = total * thread / threads;
    const std::int64_t end = total * (thread + 1) / threads;
    const std::int64_t first_row = by_row ? begin : 0;
    const std::int64_t num_rows = by_row ? end - begin : rows;
    const std::int64_t first_out = by_row ? 0 : begin;
    const std::int64_t num_out = by_row ? weight.rows : end - begin;
    if (begin < end) {
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(num_rows),
                  static_cast<int>(num_out), static_cast<int>(weight.cols), 1.f,
                  x.data() + first_row * weight.cols, static_cast<int>(weight.cols),
                  weight.data.data() + first_out * weight.cols, static_cast<int>(weight.cols),
                  accumulate ? 1.f : 0.f, y.data() + first_row * weight.rows + first_out,
                  static_cast<int>(weight.rows));
    }
  }
}

void rms_norm(std::span<const float> x, std::span<const float> gain, float eps,
              std::span<float> y) {
  const auto size = static_cast<std::int64_t>(gain.size());
  const std::int64_t rows = static_cast<std::int64_t>(x.size()) / size;
#pragma omp parallel for
  for (std::int64_t row = 0; row < rows; ++row) {
    const float* in = x.data() + row * size;
    float* out = y.data() + row * size;
    float squares = 0.f;
#pragma omp simd reduction(+ : squares)
    for (std::int64_t i = 0; i < size; ++i) squares += in[i] * in[i];
    const float scale = 1.f / std::sqrt(squares / static_cast<float>(size) + eps);
    for (std::int64_t i = 0; i < size; ++i) out[i] = in[i] * scale * gain[i];
  }
}

RotaryTable::RotaryTable(std::span<const std::int32_t> positions,
                         std::span<const float> frequencies)
    : rows_(static_cast<std::int64_t>(positions.size())),
      half_(static_cast<std::int64_t>(frequencies.size())),
      cosines_(rows_ * half_),
      sines_(rows_ * half_) {
#pragma omp parallel for
  for (std::int64_t row = 0; row < rows_; ++row) {
    for (std::int64_t i = 0; i < half_; ++i) {
      const float angle = static_cast<float>(positions[row]) * frequencies[i];
      cosines_[row * half_ + i] = std::cos(angle);
      sines_[row * half_ + i] = std::sin(angle);
    }
  }
}

void RotaryTable::apply(std::span<float> x) const {
  if (rows_ == 0) return;
  const std::int64_t row_size = static_cast<std::int64_t>(x.size()) / rows_;
#pragma omp parallel for
  for (std::int64_t row = 0; row < rows_; ++row) {
    const float* cosines = cosines_.data() + row * half_;
    const float* sines = sines_.data() + row * half_;
    for (std::int64_t head = 0; head < row_size; head += 2 * half_) {
      float* low = x.data() + row * row_size + head;
      float* high = low + half_;
      for (std::int64_t i = 0; i < half_; ++i) {
        const float turned = low[i] * cosines[i] - high[i] * sines[i];
        high[i] = high[i] * cosines[i] + low[i] * sines[i];
        low[i] = turned;
      }
    }
  }
}

void swiglu(std::span<float> gate, std::span<const float> up) {
  const auto size = static_cast<std::int64_t>(gate.size());
#pragma omp parallel for simd
  for (std::int64_t i = 0; i < size; ++i) gate[i] *= up[i] / (1.f + std::exp(-gate[i]));
}

double negative_log_likelihood(std::span<const float> logits, std::int64_t target) {
  const float largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  return std::log(sum) + largest - logits[target];
}

}  // namespace llama
