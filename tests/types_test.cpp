#include "hip_attn/types.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "catch.hpp"

namespace hip_attn {
namespace {

template <Element T>
constexpr int kMantissaBits = std::same_as<T, float16> ? 10 : 7;

// The value of a 16-bit float with the given bits, by the definition of the format.
template <Element T>
double decode_bits(std::uint16_t bits) {
  constexpr int kExponentBits = 15 - kMantissaBits<T>;
  constexpr int kBias = (1 << (kExponentBits - 1)) - 1;
  const int exponent = (bits >> kMantissaBits<T>)&((1 << kExponentBits) - 1);
  const int mantissa = bits & ((1 << kMantissaBits<T>)-1);
  const double sign = bits & 0x8000u ? -1.0 : 1.0;
  if (exponent == (1 << kExponentBits) - 1) {
    return mantissa ? std::numeric_limits<double>::quiet_NaN()
                    : sign * std::numeric_limits<double>::infinity();
  }
  return exponent == 0 ? sign * std::ldexp(mantissa, 1 - kBias - kMantissaBits<T>)
                       : sign * std::ldexp(mantissa + (1 << kMantissaBits<T>),
                                           exponent - kBias - kMantissaBits<T>);
}

TEMPLATE_TEST_CASE("every 16-bit value converts to float exactly and back to itself", "", float16,
                   bfloat16) {
  int wrong = 0;
  for (std::uint32_t bits = 0; bits <= 0xffffu; ++bits) {
    const TestType value{static_cast<std::uint16_t>(bits)};
    const double expected = decode_bits<TestType>(value.bits);
    const float converted = to_float(value);
    const TestType back = from_float<TestType>(converted);
    if (std::isnan(expected)) {
      wrong += !std::isnan(converted) || !std::isnan(to_float(back));
    } else {
      wrong += converted != expected || std::signbit(converted) != std::signbit(expected) ||
               back.bits != value.bits;
    }
  }
  CHECK(wrong == 0);
}

TEMPLATE_TEST_CASE("from_float rounds to the nearest value, halfway cases to even", "", float16,
                   bfloat16) {
  int wrong = 0;
  const auto infinity = from_float<TestType>(std::numeric_limits<float>::infinity()).bits;
  for (std::uint16_t low = 0; low + 1 < infinity; ++low) {
    const std::uint16_t high = low + 1;
    // Exact: a float has at least one bit more than either format, denormals included.
    const auto middle =
        static_cast<float>((decode_bits<TestType>(low) + decode_bits<TestType>(high)) / 2);
    const std::uint16_t even = low % 2 == 0 ? low : high;
    const float below = std::nextafter(middle, 0.f);
    const float above = std::nextafter(middle, std::numeric_limits<float>::infinity());
    wrong += from_float<TestType>(middle).bits != even;
    wrong += from_float<TestType>(below).bits != low;
    wrong += from_float<TestType>(above).bits != high;
    wrong += from_float<TestType>(-middle).bits != (even | 0x8000u);
    wrong += from_float<TestType>(-above).bits != (high | 0x8000u);
  }
  CHECK(wrong == 0);
}

TEMPLATE_TEST_CASE("from_float overflows to infinity from half a unit past the largest value", "",
                   float16, bfloat16) {
  const float infinity = std::numeric_limits<float>::infinity();
  const auto largest = static_cast<std::uint16_t>(from_float<TestType>(infinity).bits - 1);
  const double value = decode_bits<TestType>(largest);
  const double half_unit = (value - decode_bits<TestType>(largest - 1)) / 2;
  const auto limit = static_cast<float>(value + half_unit);
  CHECK(to_float(from_float<TestType>(limit)) == infinity);
  CHECK(to_float(from_float<TestType>(-limit)) == -infinity);
  CHECK(from_float<TestType>(std::nextafter(limit, 0.f)).bits == largest);
  CHECK(to_float(from_float<TestType>(infinity)) == infinity);
}

TEST_CASE("from_float keeps the sign of zero and flushes what is below half the least value") {
  CHECK(from_float<float16>(-0.f).bits == 0x8000u);
  CHECK(from_float<bfloat16>(-0.f).bits == 0x8000u);
  CHECK(from_float<float16>(0x1p-25f).bits == 0u);  // halfway to the least denormal: to even
  CHECK(from_float<float16>(std::nextafter(0x1p-25f, 1.f)).bits == 1u);
  CHECK(from_float<float16>(std::numeric_limits<float>::denorm_min()).bits == 0u);
}

TEST_CASE("conversions are usable at compile time") {
  static_assert(to_float(from_float<float16>(1.5f)) == 1.5f);
  static_assert(to_float(from_float<bfloat16>(-0.375f)) == -0.375f);
  static_assert(to_float(from_float<float>(0.1f)) == 0.1f);
}

TEST_CASE("element types have the layout of their CUDA counterparts") {
  static_assert(sizeof(float16) == 2 && alignof(float16) == 2);
  static_assert(sizeof(bfloat16) == 2 && alignof(bfloat16) == 2);
  static_assert(std::is_trivially_copyable_v<float16> && std::is_trivially_copyable_v<bfloat16>);
  static_assert(kElementType<float> == ElementType::kFloat32);
  static_assert(kElementType<float16> == ElementType::kFloat16);
  static_assert(kElementType<bfloat16> == ElementType::kBFloat16);
  static_assert(Element<float> && !Element<double> && !Element<const float>);
  static_assert(StoredFor<float, float> && StoredFor<float16, float16>);
  static_assert(StoredFor<float16, float> && StoredFor<bfloat16, float>);
  static_assert(!StoredFor<float, float16> && !StoredFor<float16, bfloat16>);
  static_assert(!StoredFor<double, float> && !StoredFor<double, double>);
}

TEST_CASE("a dense TensorView is row-major") {
  int data[24];
  const TensorView<int, 3> view(data, {2, 3, 4});
  CHECK(view.strides == std::array<std::int64_t, 3>{12, 4, 1});
  CHECK(&view(1, 2, 3) == data + 23);
}

TEST_CASE("a TensorView follows its strides and converts to a view of const") {
  int data[64];
  const TensorView<int, 2> transposed(data, {4, 3}, {1, 8});
  CHECK(&transposed(3, 2) == data + 19);
  const TensorView<const int, 2> constant = transposed;
  CHECK(&constant(3, 2) == data + 19);
  CHECK(constant.sizes == transposed.sizes);
  static_assert(!std::is_convertible_v<TensorView<const int, 2>, TensorView<int, 2>>);
}

TEST_CASE("devices compare by type and ordinal") {
  CHECK(kCpu == Device{});
  CHECK(cuda_device() == Device{DeviceType::kCuda, 0});
  CHECK_FALSE(cuda_device(1) == cuda_device(0));
}

}  // namespace
}  // namespace hip_attn
