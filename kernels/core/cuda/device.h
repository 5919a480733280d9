// What a CUDA kernel may use, in one vocabulary with two meanings: instructions under nvcc, a checked functional model in
// the emulator of the tests (tests/simt), which compiles the same .cu files as C++.
//
//   memory     Global<T>, Shared<T>: plain pointers under nvcc; in the emulator they know what they may reach. A kernel
//              reaches memory only by load(), store(), and the functions of ptx.h. as<U>(p) looks at it as another type.
//   shared     shared_array<T, N, tag>(), one for each tag in a kernel, or dynamic_shared<T>(byte offset): 128-byte aligned.
//   order      sync_block(), sync_warp(), fences. A warp's lanes are not in step between them.
//   lanes      shuffle(), shuffle_xor(), shuffle_down(), ballot(): all 32 lanes take part.
//   numbers    widen(x) to f32, narrow<T>(f32) to nearest even; pack2<T>, unpack2<T> for two at a time.
//   launch     launch_grid(stream, name, grid, threads, shared bytes, kernel, parameters), on the host.
//
// Kernels are `__global__ void name(const __grid_constant__ Params p)`, Params a struct of numbers and Global pointers made on the
// host by global<T>(view). Blocks are one-dimensional, a multiple of 32 threads.
#pragma once

#include "kernels/core/kernel.h"

#ifdef __CUDACC__
#include "kernels/core/cuda/device_nvcc.h"
#include "kernels/core/cuda/ptx_nvcc.h"
#else
#include <simt/device.h>  // on the include path of the tests' build
#include <simt/ptx.h>
#endif
