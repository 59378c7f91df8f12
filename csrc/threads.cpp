#include "threads.h"

namespace ff {
namespace {

constexpr int kSpinsBeforeYield = 4096;
constexpr int kSpinsBeforeSleep = 1 << 14;

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

Threads::Threads(int count) : count_(count), flags_(std::make_unique<Flag[]>(count)) {
  try {
    for (int i = 1; i < count; ++i) workers_.emplace_back([this, i] { work(i); });
  } catch (...) {  // the system gives no more threads
    stop();
    throw;
  }
}

Threads::~Threads() { stop(); }

void Threads::stop() {
  stop_.store(true);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (auto& worker : workers_) worker.join();
}

void Threads::run(const std::function<void(int)>& body) {
  if (count_ == 1) {
    body(0);
    return;
  }
  body_ = &body;
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  body(0);
  barrier(0);  // the workers meet it after their body
}

void Threads::work(int thread) {
  uint32_t seen = 0;
  for (;;) {
    int spins = 0;
    while (generation_.load(std::memory_order_acquire) == seen) {
      if (++spins < kSpinsBeforeSleep) {
        pause();
      } else {
        generation_.wait(seen, std::memory_order_acquire);
      }
    }
    ++seen;
    if (stop_.load()) return;
    (*body_)(thread);
    barrier(thread);
  }
}

void Threads::barrier(int thread) {
  if (count_ == 1) return;
  const uint32_t round = flags_[thread].round.load(std::memory_order_relaxed) + 1;
  flags_[thread].round.store(round, std::memory_order_release);
  for (int i = 0; i < count_; ++i) {
    int spins = 0;
    while (static_cast<int32_t>(flags_[i].round.load(std::memory_order_acquire) - round) < 0) {
      pause();
      if (++spins >= kSpinsBeforeYield) {
        spins = 0;
        std::this_thread::yield();
      }
    }
  }
}

}  // namespace ff
