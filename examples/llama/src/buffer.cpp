#include "buffer.hpp"

#include <algorithm>

namespace llama {
OwnedTensor::OwnedTensor(Backend& backend, hip_attn::ElementType type, std::int64_t rows,
                         std::int64_t cols, std::span<const float> values)
    : OwnedTensor(backend, type, rows, cols) {
  with_type(type, [&]<typename T>(T) {
    std::vector<T> rounded(values.size());
    std::transform(values.begin(), values.end(), rounded.begin(), hip_attn::from_float<T>);
    memory_.upload(std::as_bytes(std::span<const T>(rounded)));
  });
}

std::vector<float> download(Backend& backend, const Tensor& tensor) {
  return with_type(tensor.type, [&]<typename T>(T) {
    std::vector<T> values(tensor.size());
    backend.download(values.data(), tensor.data, values.size() * sizeof(T));
    std::vector<float> widened(values.size());
    std::transform(values.begin(), values.end(), widened.begin(),
                   [](T value) { return hip_attn::to_float(value); });
    return widened;
  });
}

}  // namespace llama
