/// Objects that hold arrays between calls: pages, landmarks, workspaces, selections and their
/// caches.
#pragma once

#include <array>
#include <memory>
#include <new>
#include <utility>

#include "handles.hpp"

namespace hip_attn::python {

/// Aligned memory of the host.
class AlignedMemory {
 public:
  AlignedMemory() = default;
  explicit AlignedMemory(std::size_t bytes)
      : data_(static_cast<std::byte*>(::operator new(bytes, kAlignment))) {}
  [[nodiscard]] std::byte* data() const noexcept { return data_.get(); }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Free {
    void operator()(std::byte* data) const { ::operator delete(data, kAlignment); }
  };
  std::unique_ptr<std::byte, Free> data_;
};

class Workspace {
 public:
  explicit Workspace(nb::handle size_or_array);

  [[nodiscard]] void* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t nbytes() const noexcept { return nbytes_; }
  /// Raises hip_attn.Error where a call on `device` cannot write to this memory.
  void require_on(DLDevice device) const;

 private:
  Array array_;
  AlignedMemory memory_;
  void* data_ = nullptr;
  std::size_t nbytes_ = 0;
  DLDevice device_ = {kDLCPU, 0};
};

class KvPages {
 public:
  KvPages(nb::handle k, nb::handle v)
      : KvPages(Array("pages.k", k, Access::kRead), Array("pages.v", v, Access::kRead)) {}
  KvPages(Array k, Array v) : k_(std::move(k)), v_(std::move(v)) {
    view_.k = k_.get();
    view_.v = v_.get();
  }

  [[nodiscard]] const HipAttnKvPages& view() const noexcept { return view_; }
  /// 0 where k has no dimension.
  [[nodiscard]] std::int64_t num_pages() const noexcept {
    return view_.k != nullptr && view_.k->ndim > 0 ? view_.k->shape[0] : 0;
  }
  void require_writable() const;

 private:
  Array k_;
  Array v_;
  HipAttnKvPages view_ = zeroed<HipAttnKvPages>();
};

class LandmarkLevel {
 public:
  LandmarkLevel(std::int64_t chunk_size, nb::handle rows, nb::handle block_table);

  [[nodiscard]] const HipAttnLandmarkLevel& view() const noexcept { return view_; }
  void require_writable() const { rows_.require_writable("landmarks.levels[i].rows"); }

 private:
  Array rows_;
  Array block_table_;
  HipAttnLandmarkLevel view_ = zeroed<HipAttnLandmarkLevel>();
};

class Landmarks {
 public:
  /// `levels` are LandmarkLevels.
  Landmarks(nb::iterable levels, std::optional<float> spread);

  [[nodiscard]] const HipAttnLandmarks& view() const noexcept { return view_; }
  void require_writable() const;

 private:
  std::vector<nb::object> objects_;
  std::vector<HipAttnLandmarkLevel> levels_;
  std::optional<float> spread_;
  HipAttnLandmarks view_ = zeroed<HipAttnLandmarks>();
};

class Selection {
 public:
  Selection(nb::handle blocks, nb::handle counts, nb::handle window_start);

  [[nodiscard]] const HipAttnSelection& view() const noexcept { return view_; }
  /// `names` are those of blocks, counts and window_start in the call that writes them.
  void require_writable(const char* const (&names)[3]) const;

 private:
  std::array<Array, 3> arrays_;
  HipAttnSelection view_ = zeroed<HipAttnSelection>();
};

class SelectionCache {
 public:
  SelectionCache(const Plan& plan, std::int64_t num_slots, nb::handle data);

  /// Without refresh_from and slots, which are a call's.
  [[nodiscard]] const HipAttnSelectionCache& view() const noexcept { return view_; }

 private:
  Array array_;
  AlignedMemory memory_;
  std::int64_t shape_[1] = {0};
  DLTensor own_{};
  HipAttnSelectionCache view_ = zeroed<HipAttnSelectionCache>();
};

/// The view of an object that may be absent.
template <typename Object>
auto view_of(const Object* object) -> decltype(&object->view()) {
  return object == nullptr ? nullptr : &object->view();
}

}  // namespace hip_attn::python
