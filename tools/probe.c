// The machine's probe, 0.3 to 0.6 s: benchmarks run it before and after, because a virtual
// machine's two processors move between placements, and twice the speed may be another placement.
// Prints one line of JSON: barrier_ns (flag-pair round trip), dp_g (vpdpbusd, 10^9 a second, each
// of two threads), bw_gbs (read bandwidth of two threads, huge pages, 256 MB so that caches do not
// flatter), class. Needs AVX-512 VNNI: cc -O2 -march=native -pthread tools/probe.c -o build/probe
#define _GNU_SOURCE
#include <immintrin.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}
static struct {
  _Alignas(128) atomic_int f;
} fl[2], g[2];
static void rv(int id, int n) {
  atomic_store_explicit(&g[id].f, n, memory_order_release);
  while (atomic_load_explicit(&g[1 - id].f, memory_order_acquire) < n);
}
static char* A;
static size_t SZ = 256u << 20;
static double bar[2], dp[2], bw;
static double ts[2], te[2];
static uint64_t sink;
#define R(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define DP(i) "vpdpbusd %%zmm24,%%zmm25,%%zmm" #i "\n"
static void* w(void* x) {
  long id = (long)x;
  cpu_set_t s;
  CPU_ZERO(&s);
  CPU_SET(id, &s);
  pthread_setaffinity_np(pthread_self(), sizeof s, &s);
  int n = 0;
  double b = 1e9;
  for (int k = 0; k < 8; k++) {
    double t = now();
    for (int i = 0; i < 400; i++) {
      n++;
      atomic_store_explicit(&fl[id].f, n, memory_order_release);
      while (atomic_load_explicit(&fl[1 - id].f, memory_order_acquire) < n);
    }
    double e = (now() - t) / 400;
    if (e < b) b = e;
  }
  bar[id] = b;
  dp[id] = 0;
  for (int r = 1; r <= 4; r++) {
    rv(id, r);
    double t = now();
    for (int i = 0; i < 150000; i++)
      __asm__ volatile(R(DP)::
                           : "zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6", "zmm7", "zmm8",
                             "zmm9", "zmm10", "zmm11", "zmm12", "zmm13", "zmm14", "zmm15");
    double q = 150000 * 16 / (now() - t) * 1e-9;
    if (q > dp[id]) dp[id] = q;
  }
  for (int r = 5; r <= 6; r++) {
    rv(id, r * 10);
    ts[id] = now();
    const char* p = A + id * (SZ / 2);
    __m512i a = _mm512_setzero_si512(), c = a;
    for (size_t i = 0; i < SZ / 2; i += 128) {
      a = _mm512_xor_si512(a, _mm512_load_si512(p + i));
      c = _mm512_xor_si512(c, _mm512_load_si512(p + i + 64));
    }
    sink += _mm512_reduce_add_epi64(_mm512_xor_si512(a, c));
    te[id] = now();
    rv(id, r * 10 + 5);
    if (!id) {
      double st = ts[0] < ts[1] ? ts[0] : ts[1], e = te[0] > te[1] ? te[0] : te[1],
             q = SZ / (e - st) * 1e-9;
      if (q > bw) bw = q;
    }
  }
  return 0;
}
int main(void) {
  A = mmap(0, SZ + (4 << 20), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  A = (char*)(((uintptr_t)A + (2 << 20) - 1) & ~((uintptr_t)(2 << 20) - 1));
  madvise(A, SZ, MADV_HUGEPAGE);
  for (size_t i = 0; i < SZ; i += 4096) A[i] = 1;
  pthread_t t[2];
  for (long i = 0; i < 2; i++) pthread_create(&t[i], 0, w, (void*)i);
  for (int i = 0; i < 2; i++) pthread_join(t[i], 0);
  double m = dp[0] < dp[1] ? dp[0] : dp[1];
  double ns = bar[0] * 1e9;
  const char* c = (m < 2.6) ? "smt-siblings-or-contended" : (ns < 120 ? "same-ccx" : "split-ccx");
  printf("{\"barrier_ns\":%.0f,\"dp_g\":[%.2f,%.2f],\"bw_gbs\":%.1f,\"class\":\"%s\"}\n", ns, dp[0],
         dp[1], bw, c);
  return 0;
}
