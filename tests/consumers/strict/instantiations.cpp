// Every public header and the templates behind them, as a project with strict warnings compiles
// them. The first header is written by CMake.
#include "all_headers.hpp"

namespace hip_attn::cpu {
namespace {

template <Element T, StoredFor<T> C>
struct Instantiated {
  decltype(&run_attention<T, C>) attention = &run_attention<T, C>;
  decltype(&merge_row<T>) merge = &merge_row<T>;
};

}  // namespace
}  // namespace hip_attn::cpu

int main() {
  using namespace hip_attn;
#define IS_THERE(T, C) &&cpu::Instantiated<T, C>().attention != nullptr
  return true HIP_ATTN_FOR_EACH_TYPE_PAIR(IS_THERE) ? 0 : 1;
}
