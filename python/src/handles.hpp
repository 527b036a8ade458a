/// Handles of the C interface as objects: configs, model configs and plans.
#pragma once

#include <memory>

#include "array.hpp"
#include "error.hpp"
#include "hip_attn/c/hip_attn.h"

namespace hip_attn::python {

/// A struct of the C interface, zero but for its size.
template <typename Struct>
Struct zeroed() {
  Struct values{};
  values.struct_size = sizeof(Struct);
  return values;
}

template <auto destroy>
struct Destroy {
  template <typename Handle>
  void operator()(Handle* handle) const {
    destroy(handle);
  }
};

using ConfigHandle = std::unique_ptr<HipAttnConfig, Destroy<hip_attn_config_destroy>>;
using ModelConfigHandle =
    std::unique_ptr<HipAttnModelConfig, Destroy<hip_attn_model_config_destroy>>;
using PlanHandle = std::unique_ptr<HipAttnPlan, Destroy<hip_attn_plan_destroy>>;

using CellsHandle = std::unique_ptr<HipAttnCells, Destroy<hip_attn_cells_destroy>>;
using HostMemoryHandle = std::unique_ptr<HipAttnHostMemory, Destroy<hip_attn_host_memory_destroy>>;
using ThreadTeamHandle = std::unique_ptr<HipAttnThreadTeam, Destroy<hip_attn_thread_team_destroy>>;

/// A valid config. hip_attn.Config holds one.
struct ConfigObject {
  ConfigHandle handle;
};

struct Plan {
  PlanHandle handle;
  bool is_decode = false;
  DLDevice device = {kDLCPU, 0};

  [[nodiscard]] HipAttnPlanInfo info() const {
    auto info = zeroed<HipAttnPlanInfo>();
    check([&](char* message, std::size_t capacity) {
      return hip_attn_plan_info(handle.get(), &info, message, capacity);
    });
    return info;
  }
};

void bind_config(nb::module_& module);
void bind_plan(nb::module_& module);
void bind_memory(nb::module_& module);
void bind_offload(nb::module_& module);
void bind_attention(nb::module_& module);
void bind_cells(nb::module_& module);
void bind_kv(nb::module_& module);

}  // namespace hip_attn::python
