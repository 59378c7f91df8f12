// Asks the system for memory before it is needed. A huge page costs about a millisecond when it is
// first written, 4 % of a prompt's time if that happens in its steps; here a thread that runs only
// when a processor is idle does it.
#pragma once
#include <sched.h>

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
  // nothing. Page by page: one call for many would keep everybody else in the process from asking
  // for memory while it runs. Without threads or idle scheduling memory comes as it is written.
  void start(uint8_t* data, size_t bytes) {
#ifdef SCHED_IDLE
    try {
      thread_ = std::thread([this, data, bytes] {
        const sched_param none{};
        if (sched_setscheduler(0, SCHED_IDLE, &none) != 0) return;
        for (size_t at = 0; at < bytes && !stop_.load(std::memory_order_relaxed); at += kPage) {
          uint8_t zero = 0;  // written only over itself
          std::atomic_ref(data[at]).compare_exchange_strong(zero, 0, std::memory_order_relaxed);
        }
      });
    } catch (const std::system_error&) {
    }
#else
    (void)data, (void)bytes;
#endif
  }

 private:
  static constexpr size_t kPage = 4096;  // the smallest there is
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace ff
