// Memory for weights, KV cache and step buffers: anonymous, zeroed, huge pages where the system has
// them. Freed with the owner; never grows.
#pragma once
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

namespace ff {

// Buffers in an arena start at multiples of this.
inline size_t aligned(size_t bytes) { return (bytes + 127) / 128 * 128; }

class Arena {
 public:
  Arena() = default;
  static size_t rounded(size_t bytes) { return (bytes + kHuge - 1) / kHuge * kHuge; }
  explicit Arena(size_t bytes) : bytes_(rounded(bytes)) {
    if (bytes == 0) {
      bytes_ = 0;
      return;
    }
    reserved_ = bytes_ + kHuge;
    void* base =
        mmap(nullptr, reserved_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) throw std::bad_alloc();
    base_ = static_cast<uint8_t*>(base);
    auto address = reinterpret_cast<uintptr_t>(base_);
    data_ = base_ + ((address + kHuge - 1) / kHuge * kHuge - address);
#ifdef MADV_HUGEPAGE
    madvise(data_, bytes_, MADV_HUGEPAGE);
#endif
  }
  Arena(Arena&& other) noexcept { swap(other); }
  Arena& operator=(Arena&& other) noexcept {
    swap(other);
    return *this;
  }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena() {
    if (base_) munmap(base_, reserved_);
  }

  uint8_t* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  static constexpr size_t kHuge = size_t{2} << 20;
  void swap(Arena& other) {
    std::swap(base_, other.base_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(reserved_, other.reserved_);
  }
  uint8_t* base_ = nullptr;
  uint8_t* data_ = nullptr;
  size_t bytes_ = 0, reserved_ = 0;
};

}  // namespace ff
