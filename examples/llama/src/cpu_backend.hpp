/// Float32 on the CPU: OpenBLAS for products, OpenMP for the rest.
#pragma once

#include <memory>

#include "backend.hpp"

namespace llama {

std::unique_ptr<Backend> make_cpu_backend();

}  // namespace llama
