// Instructions that CUDA C++ has no word for, under nvcc. sm_80 and later. Include device.h.
// Source: NVIDIA, Parallel Thread Execution ISA 9.0, "Warp Level Matrix Multiply-Accumulate", "Asynchronous copy".
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/core/cuda/device_nvcc.h"

namespace darkroom::cuda {

DARKROOM_DEVICE uint32_t shared_address(const void* p) { return uint32_t(__cvta_generic_to_shared(p)); }

// --- matrices ---------------------------------------------------------------------------------------------------------

// d [16, 8] += a [16, 16] · b [16, 8]; T is bf16_t or f16_t, sums in f32. Lane l, g = l / 4, t = l % 4, holds
//   a: rows g (registers 0, 2) and g+8 (1, 3), columns 2t, 2t+1 (0, 1) and 2t+8, 2t+9 (2, 3)
//   b: column g, rows 2t, 2t+1 (0) and 2t+8, 2t+9 (1)
//   d: rows g (0, 1) and g+8 (2, 3), columns 2t, 2t+1
template <typename T>
DARKROOM_DEVICE void mma_16816(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  if constexpr (std::is_same_v<T, bf16_t>)
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  else
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// The same with half the depth: a [16, 8], registers 0 and 1 of the above; b [8, 8], register 0.
template <typename T>
DARKROOM_DEVICE void mma_1688(float (&d)[4], const uint32_t (&a)[2], uint32_t b) {
  if constexpr (std::is_same_v<T, bf16_t>)
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(b));
  else
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(b));
}

// Loads N 8×8 matrices of 16-bit elements: lanes 8i … 8i+7 point to the rows (16 bytes, aligned) of matrix i; lane l gets
// columns 2(l%4), 2(l%4)+1 of row l/4 of each. With kTranspose, of each matrix's transpose. N = 2 takes lanes 0 … 15.
template <int N, bool kTranspose = false, typename T>
DARKROOM_DEVICE void ldmatrix(uint32_t (&r)[N], const T* row) {
  static_assert(N == 2 || N == 4);
  const uint32_t at = shared_address(row);
  if constexpr (N == 4 && !kTranspose)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
  if constexpr (N == 4 && kTranspose)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
  if constexpr (N == 2 && !kTranspose)
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(at)
                 : "memory");
  if constexpr (N == 2 && kTranspose)
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(at)
                 : "memory");
}

// --- asynchronous copies ----------------------------------------------------------------------------------------------

// Starts a copy of kBytes (4, 8, 16; both sides aligned to as much) from global to shared memory; where `valid` is false, of
// zeros: `from` is then not read, but must still be a pointer. 16 bytes go past L1.
template <int kBytes, typename T>
DARKROOM_DEVICE void cp_async(T* to, const T* from, bool valid) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  const uint32_t at = shared_address(to), bytes = valid ? kBytes : 0;
  if constexpr (kBytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(bytes) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(at), "l"(from), "n"(kBytes), "r"(bytes)
                 : "memory");
}
// Ends this thread's group of copies; cp_async_wait<N>() returns when all groups but the last N have arrived. What arrived is
// seen by this thread; by others after a barrier.
DARKROOM_DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N>
DARKROOM_DEVICE void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// --- approximations ---------------------------------------------------------------------------------------------------

// 2^x within 2 ulp, 0 for −∞ and below −126.
DARKROOM_DEVICE float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// 1/x within 1 ulp.
DARKROOM_DEVICE float reciprocal_approx(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace darkroom::cuda
