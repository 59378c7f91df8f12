// The one thread pool: the caller is thread 0. Inside a run, threads meet at barriers that spin;
// between runs the workers sleep after a short spin, so that an idle engine costs nothing.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace ff {

class Threads {
 public:
  explicit Threads(int count);  // std::system_error if the system gives fewer
  ~Threads();
  int count() const { return count_; }

  // Runs body(thread) on every thread and returns when all are done. `body` must not throw.
  void run(const std::function<void(int)>& body);

  // All threads of a run must call it equally often.
  void barrier(int thread);

 private:
  struct alignas(128) Flag {
    std::atomic<uint32_t> round{0};
  };
  void work(int thread);
  void stop();

  int count_;
  std::unique_ptr<Flag[]> flags_;
  std::vector<std::thread> workers_;
  const std::function<void(int)>* body_ = nullptr;
  alignas(128) std::atomic<uint32_t> generation_{0};
  alignas(128) std::atomic<bool> stop_{false};
};

// Units of work split evenly in contiguous ranges; a thread that has finished its own range takes
// single chunks from the others, so that an interrupted core does not hold everybody up.
class Split {
 public:
  Split(int threads) : threads_(threads), cursors_(std::make_unique<Cursor[]>(threads)) {}

  void reset(int64_t units) {
    units_ = units;
    for (int i = 0; i < threads_; ++i) {
      cursors_[i].end = units * (i + 1) / threads_;
      cursors_[i].next.store(units * i / threads_, std::memory_order_relaxed);
    }
    chunk_ = units / (threads_ * 8) + 1;
  }

  int64_t first(int thread) const { return units_ * thread / threads_; }

  template <class Body>
  void each(int thread, Body&& body) {
    for (int i = 0; i < threads_; ++i) {
      Cursor& cursor = cursors_[(thread + i) % threads_];
      const int64_t end = cursor.end;
      while (cursor.next.load(std::memory_order_relaxed) < end) {
        const int64_t begin = cursor.next.fetch_add(chunk_, std::memory_order_relaxed);
        for (int64_t unit = begin; unit < begin + chunk_ && unit < end; ++unit) body(unit);
      }
    }
  }

 private:
  struct alignas(128) Cursor {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
  };
  int threads_;
  int64_t units_ = 0, chunk_ = 1;
  std::unique_ptr<Cursor[]> cursors_;
};

}  // namespace ff
