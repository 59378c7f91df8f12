// Asks the system for memory before it is needed. A huge page costs about a millisecond when it is
// first written, 4 % of a prompt's time if that happens in its steps; here a thread that runs only
// when a processor is idle does it.
#pragma once
#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <system_error>
#include <thread>

namespace ff {

class Prefault {
 public:
  Prefault() = default;
  ~Prefault() {
    stop_.store(true, std::memory_order_relaxed);
    if (thread_.joinable()) thread_.join();
  }

  // Of whole pages from `data` on, zeroed as all new memory is. Whoever writes meanwhile loses
  // nothing. Without threads or a kernel that can do it (5.14) memory comes as it is written.
  void start(uint8_t* data, size_t bytes) {
#if defined(MADV_POPULATE_WRITE) && defined(SCHED_IDLE)
    try {
      thread_ = std::thread([this, data, bytes] {
        const sched_param none{};
        if (sched_setscheduler(0, SCHED_IDLE, &none) != 0) return;
        for (size_t at = 0; at < bytes && !stop_.load(std::memory_order_relaxed); at += kPiece)
          if (madvise(data + at, std::min(kPiece, bytes - at), MADV_POPULATE_WRITE) != 0) return;
      });
    } catch (const std::system_error&) {
    }
#else
    (void)data, (void)bytes;
#endif
  }

 private:
  static constexpr size_t kPiece = size_t{2} << 20;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace ff
