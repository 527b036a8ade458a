#include "openmp_runtime.hpp"

#if defined(_OPENMP) && __has_include(<dlfcn.h>)
#include <dlfcn.h>
#include <omp.h>
#endif

namespace hip_attn::detail {

void keep_openmp_loaded() noexcept {
#if defined(_OPENMP) && defined(RTLD_NODELETE)
  [[maybe_unused]] static const bool kept = [] {
    Dl_info runtime;
    if (dladdr(reinterpret_cast<void*>(&omp_get_max_threads), &runtime) == 0) return false;
    return dlopen(runtime.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE) != nullptr;
  }();
#endif
}

}  // namespace hip_attn::detail
