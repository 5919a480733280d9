// The vocabulary of device.h under nvcc. Include device.h.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <type_traits>

#include "kernels/core/dtype.h"
#include "kernels/core/kernel.h"
#include "kernels/core/launches.h"

#define DARKROOM_DEVICE static __device__ __forceinline__
#define DARKROOM_HOST_DEVICE static __host__ __device__ __forceinline__
#define DARKROOM_UNROLL _Pragma("unroll")
#define DARKROOM_NO_UNROLL _Pragma("unroll 1")

namespace darkroom::cuda {

// --- memory -----------------------------------------------------------------------------------------------------------

template <typename T>
using Global = T*;
template <typename T>
using Shared = T*;

// Host side. An absent view is a null pointer.
template <typename T>
Global<T> global(const TensorView& view, const char* /*name*/) {
  return static_cast<T*>(view.data);
}
template <typename T>
Global<T> global(const void* data, size_t /*elements*/, const char* /*name*/) {
  return static_cast<T*>(const_cast<void*>(data));
}

// N elements moved at once: alignment is N · sizeof(T), at most 16 bytes.
template <typename T, int N>
struct alignas(sizeof(T) * N) Vec {
  T v[N];
};

template <typename U, typename T>
DARKROOM_HOST_DEVICE auto as(T* p) {
  return reinterpret_cast<std::conditional_t<std::is_const_v<T>, const U, U>*>(p);
}

template <typename T>
DARKROOM_DEVICE std::remove_const_t<T> load(T* p) {
  if constexpr (sizeof(T) == 16 && alignof(T) == 16) {
    const uint4 u = *reinterpret_cast<const uint4*>(p);
    return *reinterpret_cast<const std::remove_const_t<T>*>(&u);
  } else if constexpr (sizeof(T) == 8 && alignof(T) == 8) {
    const uint2 u = *reinterpret_cast<const uint2*>(p);
    return *reinterpret_cast<const std::remove_const_t<T>*>(&u);
  } else if constexpr (sizeof(T) == 4 && alignof(T) == 4) {
    const uint32_t u = *reinterpret_cast<const uint32_t*>(p);
    return *reinterpret_cast<const std::remove_const_t<T>*>(&u);
  } else {
    return *p;
  }
}
template <typename T>
DARKROOM_DEVICE void store(T* p, const std::type_identity_t<T>& value) {
  if constexpr (sizeof(T) == 16 && alignof(T) == 16)
    *reinterpret_cast<uint4*>(p) = *reinterpret_cast<const uint4*>(&value);
  else if constexpr (sizeof(T) == 8 && alignof(T) == 8)
    *reinterpret_cast<uint2*>(p) = *reinterpret_cast<const uint2*>(&value);
  else if constexpr (sizeof(T) == 4 && alignof(T) == 4)
    *reinterpret_cast<uint32_t*>(p) = *reinterpret_cast<const uint32_t*>(&value);
  else
    *p = value;
}

template <typename T, int N, int kTag = 0>
DARKROOM_DEVICE Shared<T> shared_array() {
  __shared__ alignas(128) unsigned char memory[N * sizeof(T)];
  return reinterpret_cast<T*>(memory);
}
template <typename T>
DARKROOM_DEVICE Shared<T> dynamic_shared(uint32_t byte_offset = 0) {
  extern __shared__ __align__(128) unsigned char darkroom_dynamic_shared[];
  return reinterpret_cast<T*>(darkroom_dynamic_shared + byte_offset);
}

// --- order ------------------------------------------------------------------------------------------------------------

DARKROOM_DEVICE void sync_block() { __syncthreads(); }
DARKROOM_DEVICE void sync_warp() { __syncwarp(); }

// --- lanes ------------------------------------------------------------------------------------------------------------

inline constexpr int kWarp = 32;
DARKROOM_DEVICE int lane_index() { return int(threadIdx.x) % kWarp; }
DARKROOM_DEVICE int warp_index() { return int(threadIdx.x) / kWarp; }

template <typename T>
DARKROOM_DEVICE T shuffle(T value, int lane) {
  return __shfl_sync(0xffffffffu, value, lane);
}
template <typename T>
DARKROOM_DEVICE T shuffle_xor(T value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}
template <typename T>
DARKROOM_DEVICE T shuffle_down(T value, int delta) {
  return __shfl_down_sync(0xffffffffu, value, delta);
}
DARKROOM_DEVICE uint32_t ballot(bool predicate) { return __ballot_sync(0xffffffffu, predicate); }

// --- numbers ----------------------------------------------------------------------------------------------------------

DARKROOM_DEVICE float widen(float x) { return x; }
DARKROOM_DEVICE float widen(bf16_t x) { return __uint_as_float(uint32_t(x.bits) << 16); }
DARKROOM_DEVICE float widen(f16_t x) {
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(x.bits));
  return f;
}

template <typename T>
DARKROOM_DEVICE T narrow(float x) {
  if constexpr (std::is_same_v<T, float>) return x;
  uint16_t bits;
  if constexpr (std::is_same_v<T, bf16_t>) asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  if constexpr (std::is_same_v<T, f16_t>) asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  if constexpr (!std::is_same_v<T, float>) return T{bits};
}

// Two numbers of a 16-bit type in one register, `low` in the lower half.
template <typename T>
DARKROOM_DEVICE uint32_t pack2(float low, float high) {
  uint32_t u;
  if constexpr (std::is_same_v<T, bf16_t>)
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(u) : "f"(high), "f"(low));
  else
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(u) : "f"(high), "f"(low));
  return u;
}
struct Pair {
  float low, high;
};
template <typename T>
DARKROOM_DEVICE Pair unpack2(uint32_t u) {
  return {widen(T{uint16_t(u & 0xffffu)}), widen(T{uint16_t(u >> 16)})};
}

DARKROOM_DEVICE uint32_t float_bits(float x) { return __float_as_uint(x); }
DARKROOM_DEVICE float bits_float(uint32_t u) { return __uint_as_float(u); }

// --- launch -----------------------------------------------------------------------------------------------------------

struct Grid {
  uint32_t x = 1, y = 1, z = 1;
};

// Throws internal_error naming the kernel where `error` is one.
void check_launch(const char* name, cudaError_t error);

template <typename Params>
void launch_grid(const Stream& stream, const char* name, Grid grid, int threads, size_t shared_bytes,
                 void (*kernel)(Params), const std::type_identity_t<Params>& params) {
  static_assert(sizeof(Params) <= 4096, "what every driver takes as parameters");
  if (note_launch({name, {grid.x, grid.y, grid.z}, threads, shared_bytes})) return;
  constexpr size_t kWithoutAsking = 48 * 1024;
  if (shared_bytes > kWithoutAsking)
    check_launch(name, cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                            cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared_bytes)));
  if (loads_only()) {
    cudaFuncAttributes loaded;
    return check_launch(name, cudaFuncGetAttributes(&loaded, reinterpret_cast<const void*>(kernel)));
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(grid.x, grid.y, grid.z);
  config.blockDim = dim3(uint32_t(threads));
  config.dynamicSmemBytes = shared_bytes;
  config.stream = static_cast<cudaStream_t>(stream.handle);
  void* arguments[] = {const_cast<std::remove_const_t<Params>*>(&params)};
  check_launch(name, cudaLaunchKernelExC(&config, reinterpret_cast<const void*>(kernel), arguments));
}

}  // namespace darkroom::cuda
