// Each operation of a Backend on the GPU against the same on the CPU, and what choose_backend says.

#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "choose_backend.hpp"
#include "support.hpp"

namespace llama::test {
namespace {

using hip_attn::ElementType;

/// The same values on both: those that `type` can hold.
struct Twins {
  OwnedTensor cpu;
  OwnedTensor gpu;
};

class OpsTest {
 public:
  explicit OpsTest(ElementType type) : type_(type), gpu_(gpu(type)) {}

  [[nodiscard]] ElementType type() const { return type_; }

  Twins random(ElementType type, std::int64_t rows, std::int64_t cols) {
    std::normal_distribution<float> normal;
    std::vector<float> values(rows * cols);
    for (float& value : values) value = normal(random_);
    Twins twins;
    twins.gpu = OwnedTensor(gpu_, type, rows, cols, values);
    twins.cpu = OwnedTensor(cpu(), ElementType::kFloat32, rows, cols, download(gpu_, *twins.gpu));
    return twins;
  }

  /// To be written to, by operations that are given all their rows.
  Twins poisoned(ElementType type, std::int64_t rows, std::int64_t cols) {
    const std::vector<float> nan(rows * cols, std::numeric_limits<float>::quiet_NaN());
    return {OwnedTensor(cpu(), ElementType::kFloat32, rows, cols, nan),
            OwnedTensor(gpu_, type, rows, cols, nan)};
  }

  /// Runs the operation on both with the tensors' own halves of the twins.
  template <typename Operation, typename... T>
  void run(Operation&& operation, const T&... twins) {
    operation(cpu(), *twins.cpu...);
    operation(gpu_, *twins.gpu...);
  }

  /// `relative`: to the largest value.
  void require_close(const Twins& twins, double relative) {
    const std::vector<float> expected = download(cpu(), *twins.cpu);
    double largest = 0;
    for (const float value : expected) largest = std::max<double>(largest, std::abs(value));
    CHECK(largest_difference(expected, download(gpu_, *twins.gpu)) <= relative * largest);
  }

  /// What rounding a result to the 16-bit type may change.
  [[nodiscard]] double rounding() const {
    return type_ == ElementType::kBFloat16 ? 0x1p-8 : 0x1p-11;
  }

 private:
  ElementType type_;
  Backend& gpu_;
  std::mt19937 random_{1};
};

/// Calls test for both types and for few and many rows.
template <typename Test>
void for_each_shape(Test&& test) {
  for (const auto type : {ElementType::kBFloat16, ElementType::kFloat16}) {
    for (const std::int64_t rows : {1, 7, 300}) {
      CAPTURE(to_string(type), rows);
      OpsTest ops(type);
      test(ops, rows);
    }
  }
}

TEST_CASE("gpu: rows are gathered, and widened, exactly") {
  REQUIRE_GPU();
  for_each_shape([](OpsTest& ops, std::int64_t rows) {
    const Twins table = ops.random(ops.type(), 50, 4104);
    const Twins wide = ops.poisoned(ElementType::kFloat32, rows, 4104);
    const Twins narrow = ops.poisoned(ops.type(), rows, 4104);
    std::vector<std::int32_t> picks(rows);
    for (std::int64_t i = 0; i < rows; ++i) picks[i] = static_cast<std::int32_t>(i * 31 % 50);
    ops.run(
        [&](Backend& backend, const Tensor& from, const Tensor& x, const Tensor& y) {
          const Buffer<std::int32_t> indices(backend, picks);
          backend.embed(from, indices.data(), x);
          backend.select_rows(from, indices.data(), y);
          backend.synchronize();
        },
        table, wide, narrow);
    ops.require_close(wide, 0);
    ops.require_close(narrow, 0);
  });
}

TEST_CASE("gpu: norm, rotary embedding and activation are those of the CPU to rounding") {
  REQUIRE_GPU();
  for_each_shape([](OpsTest& ops, std::int64_t rows) {
    const Twins x = ops.random(ElementType::kFloat32, rows, 2056);
    const Twins gain = ops.random(ElementType::kFloat32, 1, 2056);
    const Twins normed = ops.poisoned(ops.type(), rows, 2056);
    ops.run([](Backend& backend, const Tensor& in, const Tensor& g,
               const Tensor& out) { backend.rms_norm(in, g, 1e-5f, out); },
            x, gain, normed);
    ops.require_close(normed, ops.rounding());

    const Twins gate = ops.random(ops.type(), rows, 1024);
    const Twins up = ops.random(ops.type(), rows, 1024);
    ops.run([](Backend& backend, const Tensor& g, const Tensor& u) { backend.swiglu(g, u); }, gate,
            up);
    ops.require_close(gate, ops.rounding());

    for (const std::int64_t head_dim : {64, 128, 256}) {
      const Twins frequencies = ops.random(ElementType::kFloat32, 1, head_dim / 2);
      const Twins table = ops.poisoned(ElementType::kFloat32, rows, head_dim);
      const Twins heads = ops.random(ops.type(), rows, 3 * head_dim);
      std::vector<std::int32_t> positions(rows);
      for (std::int64_t i = 0; i < rows; ++i) positions[i] = static_cast<std::int32_t>(i * 3461);
      ops.run(
          [&](Backend& backend, const Tensor& f, const Tensor& t, const Tensor& h) {
            const Buffer<std::int32_t> at(backend, positions);
            backend.rotary_table(at.data(), f, t);
            backend.rotate(t, h);
            backend.synchronize();
          },
          frequencies, table, heads);
      ops.require_close(table, 1e-6);
      ops.require_close(heads, ops.rounding());
    }
  });
}

TEST_CASE("gpu: products are accumulated in float32") {
  REQUIRE_GPU();
  for_each_shape([](OpsTest& ops, std::int64_t rows) {
    const Twins x = ops.random(ops.type(), rows, 1024);
    const Twins weight = ops.random(ops.type(), 384, 1024);
    const Twins y = ops.poisoned(ops.type(), rows, 384);
    const Twins sum = ops.random(ElementType::kFloat32, rows, 384);
    const Twins logits = ops.poisoned(ElementType::kFloat32, rows, 384);
    ops.run(
        [](Backend& backend, const Tensor& in, const Tensor& w, const Tensor& out, const Tensor& s,
           const Tensor& l) {
          backend.linear(in, w, out);
          backend.add_linear(in, w, s);
          backend.logits(in, w, l);
        },
        x, weight, y, sum, logits);
    ops.require_close(y, ops.rounding());
    ops.require_close(sum, 1e-5);
    ops.require_close(logits, 1e-5);
  });
}

TEST_CASE("gpu: likelihoods are those of the CPU") {
  REQUIRE_GPU();
  for_each_shape([](OpsTest& ops, std::int64_t rows) {
    const Twins logits = ops.random(ElementType::kFloat32, rows, 4099);
    std::vector<std::int32_t> targets(rows);
    for (std::int64_t i = 0; i < rows; ++i) targets[i] = static_cast<std::int32_t>(i * 577 % 4099);
    std::vector<std::vector<double>> scores;
    ops.run(
        [&](Backend& backend, const Tensor& l) {
          const Buffer<std::int32_t> next(backend, targets);
          const Buffer<double> out(backend, rows);
          backend.negative_log_likelihood(l, next.data(), out.data());
          scores.push_back(out.download());
        },
        logits);
    for (std::int64_t i = 0; i < rows; ++i) {
      CHECK(scores[1][i] == Catch::Approx(scores[0][i]).margin(1e-5));
    }
  });
}

TEST_CASE("gpu: rows that its kernels cannot work on are refused") {
  REQUIRE_GPU();
  OpsTest ops(ElementType::kBFloat16);
  const Twins x = ops.random(ops.type(), 1, 12);
  require_error(ErrorCode::kUnsupportedModel, "multiple of 8",
                [&] { gpu(ops.type()).swiglu(*x.gpu, *x.gpu); });
}

TEST_CASE("device: the CPU on request, a GPU or an error on request, and either automatically") {
  CHECK(choose_backend("cpu", std::nullopt)->device() == hip_attn::kCpu);
  CHECK(choose_backend("auto", ElementType::kFloat32)->device() == hip_attn::kCpu);
  require_error(ErrorCode::kInvalidArgument, "--kv-type is float32",
                [] { choose_backend("gpu", ElementType::kFloat32); });
  const bool has_gpu = check_cuda().ok();
  const auto chosen = choose_backend("auto", std::nullopt);
  CHECK((chosen->device() != hip_attn::kCpu) == has_gpu);
  CHECK(chosen->activation_type() == (has_gpu ? ElementType::kBFloat16 : ElementType::kFloat32));
  if (!has_gpu) {
    require_error(ErrorCode::kCuda, check_cuda().message(),
                  [] { choose_backend("gpu", std::nullopt); });
  }
}

}  // namespace
}  // namespace llama::test
