// The OpenMP runtime outlives this library.
#pragma once

namespace hip_attn::detail {

// Comes before the first parallel region. A program may unload this library, or a plugin that it is
// linked into, and the OpenMP runtime would go with it; but the runtime's threads are never joined,
// and GCC's libgomp does not say so to the loader: they would return to code that is not there.
void keep_openmp_loaded() noexcept;

}  // namespace hip_attn::detail
