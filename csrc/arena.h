// Memory for weights, KV cache and step buffers: anonymous, zeroed, huge pages where the system has
// them. Freed with the owner; never grows.
#pragma once
#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

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

// A few arenas that nobody uses, for who needs the same size next: fresh memory costs a fault and a
// cleared page for each 2 MiB, on a virtual machine often many times that. Any thread may call.
class SpareArenas {
 public:
  // Zeros, as a new one has them.
  Arena take(size_t bytes) {
    Arena found;
    {
      std::lock_guard lock(mutex_);
      last_bytes_ = Arena::rounded(bytes);
      const auto kept = find(last_bytes_);
      if (kept != kept_.end()) {
        found = std::move(*kept);
        kept_.erase(kept);
      }
    }
    if (found.bytes() == 0) return Arena(bytes);
    std::memset(found.data(), 0, found.bytes());
    return found;
  }

  void keep(Arena arena) {
    std::lock_guard lock(mutex_);
    if (has_room(arena.bytes())) kept_.push_back(std::move(arena));
  }

  // Another as large as the one that was last taken, its pages there, unless one is kept.
  void refill() {
    size_t bytes;
    {
      std::lock_guard lock(mutex_);
      bytes = last_bytes_;
      if (bytes == 0 || !has_room(bytes) || find(bytes) != kept_.end()) return;
    }
    try {
      Arena fresh(bytes);
      std::memset(fresh.data(), 0, bytes);
      keep(std::move(fresh));
    } catch (const std::bad_alloc&) {  // whoever needs it will ask, and say so
    }
  }

 private:
  static constexpr size_t kMost = size_t{64} << 20;

  std::vector<Arena>::iterator find(size_t bytes) {
    return std::find_if(kept_.begin(), kept_.end(),
                        [bytes](const Arena& each) { return each.bytes() == bytes; });
  }
  bool has_room(size_t bytes) const {
    for (const Arena& each : kept_) bytes += each.bytes();
    return bytes <= kMost;
  }

  std::mutex mutex_;
  std::vector<Arena> kept_;
  size_t last_bytes_ = 0;
};

}  // namespace ff
