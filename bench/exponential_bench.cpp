// The largest errors of the CPU backend's exp and tanh, in ulp of the exact result: of every float
// of the ranges that attention uses, for each instruction set whose kernels are built.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "hip_attn/build_info.hpp"
#include "hip_attn/cpu/exponential.hpp"

namespace {

constexpr std::size_t kBlock = 4096;
using Block = std::array<float, kBlock>;
using Apply = void (*)(const Block& x, Block& y);

enum class Function { kExp, kTanh };

// Inlined into the functions below, each of which is compiled for one instruction set.
template <Function function>
[[gnu::always_inline]] inline void apply(const Block& x, Block& y) {
  for (std::size_t i = 0; i < kBlock; ++i) {
    y[i] = function == Function::kExp ? hip_attn::cpu::exp_of(x[i]) : hip_attn::cpu::tanh_of(x[i]);
  }
}

template <Function function>
void baseline(const Block& x, Block& y) {
  apply<function>(x, y);
}
#if defined(__x86_64__)
template <Function function>
[[gnu::target("arch=x86-64-v3")]] void x86_64_v3(const Block& x, Block& y) {
  apply<function>(x, y);
}
template <Function function>
[[gnu::target("arch=x86-64-v4")]] void x86_64_v4(const Block& x, Block& y) {
  apply<function>(x, y);
}
#endif

double ulp_of(double exact) { return std::ldexp(1.0, std::max(std::ilogb(exact), -126) - 23); }

// Of all floats from `low` to `high`, both above 0; exp takes them negated.
template <Function function>
void largest_error(benchmark::State& state, Apply apply, float low, float high) {
  const auto first = std::bit_cast<std::uint32_t>(low), last = std::bit_cast<std::uint32_t>(high);
  double largest = 0;
  for (auto _ : state) {
    for (std::uint32_t bits = first; bits <= last; bits += kBlock) {
      Block x, y;
      for (std::uint32_t i = 0; i < kBlock; ++i) {
        const auto value = std::bit_cast<float>(std::min(bits + i, last));
        x[i] = function == Function::kExp ? -value : value;
      }
      apply(x, y);
      for (std::size_t i = 0; i < kBlock; ++i) {
        const double exact =
            function == Function::kExp ? std::exp(double{x[i]}) : std::tanh(double{x[i]});
        largest = std::max(largest, std::abs(y[i] - exact) / ulp_of(exact));
      }
    }
  }
  state.counters["largest_ulp"] = largest;
}

void add(const std::string& isa, Apply exp, Apply tanh) {
  const auto once = [](benchmark::internal::Benchmark* one) {
    one->Iterations(1)->Unit(benchmark::kSecond);
  };
  once(benchmark::RegisterBenchmark(("exp/" + isa).c_str(), largest_error<Function::kExp>, exp,
                                    1e-6F, 87.2F));
  once(benchmark::RegisterBenchmark(("tanh/" + isa).c_str(), largest_error<Function::kTanh>, tanh,
                                    1e-6F, 12.F));
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  add("baseline", baseline<Function::kExp>, baseline<Function::kTanh>);
#if defined(__x86_64__)
  const std::string_view best = hip_attn::cpu_instruction_set();
  if (best != "baseline") add("x86-64-v3", x86_64_v3<Function::kExp>, x86_64_v3<Function::kTanh>);
  if (best == "x86-64-v4") add("x86-64-v4", x86_64_v4<Function::kExp>, x86_64_v4<Function::kTanh>);
#endif
  benchmark::RunSpecifiedBenchmarks();
}
