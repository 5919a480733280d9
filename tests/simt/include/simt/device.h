// The vocabulary of kernels/core/cuda/device.h in the emulator.
#pragma once

#include <simt/machine.h>
#include <simt/submit.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels/core/dtype.h"
#include "kernels/core/kernel.h"
#include "kernels/core/launches.h"

#define DARKROOM_DEVICE static inline
#define DARKROOM_HOST_DEVICE static inline
#define DARKROOM_UNROLL
#define DARKROOM_NO_UNROLL

#define __global__ static
#define __device__
#define __grid_constant__
#define __launch_bounds__(...)
#define threadIdx (::darkroom::simt::Index{uint32_t(::darkroom::simt::current->id), 0, 0})
#define blockIdx (::darkroom::simt::block_index)
#define gridDim (::darkroom::simt::launch.grid)
#define blockDim (::darkroom::simt::Index{uint32_t(::darkroom::simt::launch.threads), 1, 1})

namespace darkroom::cuda {

using simt::kWarp;
using simt::Site;

// --- memory -----------------------------------------------------------------------------------------------------------

template <typename T>
struct Global {
  T* p = nullptr;
  simt::View view;

  operator Global<const T>() const requires(!std::is_const_v<T>) { return {p, view}; }
  // Addresses are formed as numbers: a pointer may be formed anywhere, only what is reached through it counts.
  Global operator+(int64_t n) const {
    return {reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(p) + uintptr_t(n) * sizeof(T)), view};
  }
  Global operator-(int64_t n) const { return *this + -n; }
  Global& operator+=(int64_t n) { return *this = *this + n; }
  bool operator==(std::nullptr_t) const { return p == nullptr; }
};

template <typename T>
struct Shared {
  T* p = nullptr;

  operator Shared<const T>() const requires(!std::is_const_v<T>) { return {p}; }
  Shared operator+(int64_t n) const {
    return {reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(p) + uintptr_t(n) * sizeof(T))};
  }
  Shared operator-(int64_t n) const { return *this + -n; }
  Shared& operator+=(int64_t n) { return *this = *this + n; }
};

template <typename T>
Global<T> global(const TensorView& view, const char* name) {
  const uintptr_t begin = reinterpret_cast<uintptr_t>(view.data);
  return {static_cast<T*>(view.data),
          {name, begin, begin + uintptr_t(view.present() ? view.extent() : 0) * dtype_size(view.dtype)}};
}
template <typename T>
Global<T> global(const void* data, size_t elements, const char* name) {
  const uintptr_t begin = reinterpret_cast<uintptr_t>(data);
  return {static_cast<T*>(const_cast<void*>(data)), {name, begin, begin + elements * sizeof(T)}};
}

template <typename T, int N>
struct alignas(sizeof(T) * N) Vec {
  T v[N];
};

template <typename U, typename T>
auto as(Global<T> p) {
  using To = std::conditional_t<std::is_const_v<T>, const U, U>;
  return Global<To>{reinterpret_cast<To*>(p.p), p.view};
}
template <typename U, typename T>
auto as(Shared<T> p) {
  using To = std::conditional_t<std::is_const_v<T>, const U, U>;
  return Shared<To>{reinterpret_cast<To*>(p.p)};
}

template <typename T>
std::remove_const_t<T> load(Global<T> p, Site site = Site::current()) {
  simt::global_check(p.view, p.p, sizeof(T), false, site);
  std::remove_const_t<T> value;
  memcpy(&value, static_cast<const void*>(p.p), sizeof(T));
  return value;
}
template <typename T>
std::remove_const_t<T> load(Shared<T> p, Site site = Site::current()) {
  simt::shared_read(p.p, sizeof(T), site);
  std::remove_const_t<T> value;
  memcpy(&value, static_cast<const void*>(p.p), sizeof(T));
  return value;
}
template <typename T>
void store(Global<T> p, const std::type_identity_t<T>& value, Site site = Site::current()) {
  simt::global_check(p.view, p.p, sizeof(T), true, site);
  memcpy(static_cast<void*>(p.p), &value, sizeof(T));
}
template <typename T>
void store(Shared<T> p, const std::type_identity_t<T>& value, Site site = Site::current()) {
  simt::shared_write(p.p, sizeof(T), site);
  memcpy(static_cast<void*>(p.p), &value, sizeof(T));
}

template <typename T, int N, int kTag = 0>
Shared<T> shared_array(Site site = Site::current()) {
  static const char key = 0;
  return {reinterpret_cast<T*>(simt::static_shared(&key, N * sizeof(T), site))};
}
template <typename T>
Shared<T> dynamic_shared(uint32_t byte_offset = 0, Site site = Site::current()) {
  return {reinterpret_cast<T*>(simt::dynamic_shared(byte_offset, sizeof(T), site))};
}

// --- order ------------------------------------------------------------------------------------------------------------

inline void sync_block(Site site = Site::current()) { simt::sync_block(site); }
inline void sync_warp(Site site = Site::current()) { simt::sync_warp(site); }

// --- lanes ------------------------------------------------------------------------------------------------------------

inline int lane_index() { return simt::current->lane(); }
inline int warp_index() { return simt::current->id / kWarp; }

namespace detail {
template <typename T>
struct ShuffleArgument {
  T value, result;
  int source;
};
template <typename T>
T shuffle_from(T value, int source, Site site) {
  ShuffleArgument<T> argument{value, value, source};
  simt::meet(
      "shuffle",
      [](void* const(&arguments)[kWarp], simt::Warp&, Site) {
        for (void* a : arguments) {
          auto* mine = static_cast<ShuffleArgument<T>*>(a);
          mine->result = static_cast<ShuffleArgument<T>*>(arguments[mine->source])->value;
        }
      },
      &argument, site);
  return argument.result;
}
}  // namespace detail

template <typename T>
T shuffle(T value, int lane, Site site = Site::current()) {
  return detail::shuffle_from(value, lane & (kWarp - 1), site);
}
template <typename T>
T shuffle_xor(T value, int mask, Site site = Site::current()) {
  return detail::shuffle_from(value, (lane_index() ^ mask) & (kWarp - 1), site);
}
template <typename T>
T shuffle_down(T value, int delta, Site site = Site::current()) {
  const int lane = lane_index();
  return detail::shuffle_from(value, lane + delta < kWarp ? lane + delta : lane, site);
}
uint32_t ballot(bool predicate, Site site = Site::current());

// --- numbers ----------------------------------------------------------------------------------------------------------

inline float widen(float x) { return x; }
inline float widen(bf16_t x) { return to_float(x); }
inline float widen(f16_t x) { return to_float(x); }

template <typename T>
T narrow(float x) {
  if constexpr (std::is_same_v<T, bf16_t>)
    return to_bf16(x);
  else if constexpr (std::is_same_v<T, f16_t>)
    return to_f16(x);
  else
    return x;
}

template <typename T>
uint32_t pack2(float low, float high) {
  return uint32_t(narrow<T>(low).bits) | uint32_t(narrow<T>(high).bits) << 16;
}
struct Pair {
  float low, high;
};
template <typename T>
Pair unpack2(uint32_t u) {
  return {widen(T{uint16_t(u & 0xffffu)}), widen(T{uint16_t(u >> 16)})};
}

inline uint32_t float_bits(float x) { return std::bit_cast<uint32_t>(x); }
inline float bits_float(uint32_t u) { return std::bit_cast<float>(u); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

// --- launch -----------------------------------------------------------------------------------------------------------

struct Grid {
  uint32_t x = 1, y = 1, z = 1;
};

template <typename Params>
void launch_grid(const Stream& stream, const char* name, Grid grid, int threads, size_t shared_bytes,
                 void (*kernel)(Params), const std::type_identity_t<Params>& params) {
  if (note_launch({name, {grid.x, grid.y, grid.z}, threads, shared_bytes})) return;
  if (loads_only()) return simt::load(reinterpret_cast<const void*>(kernel));
  const simt::Launch launch{name, {grid.x, grid.y, grid.z}, threads, shared_bytes};
  simt::submit(stream.handle, reinterpret_cast<const void*>(kernel),
               [=] { simt::run_grid(launch, [&] { kernel(params); }); });
}

}  // namespace darkroom::cuda
