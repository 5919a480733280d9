// Kernels and libraries in turn, call by call. On a machine whose speed changes from one second to the next, with its neighbours', only the
// ratios of neighbouring calls count, and the share of what the machine can do at that moment.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "bench/kernels/layers.h"
#include "bench/kernels/libraries.h"
#include "bench/kernels/machine.h"

namespace darkroom::bench {

struct AlternateOptions {
  int rounds = 15;
  std::string filter;                 // a regular expression: layers whose name it is found in
  std::vector<std::string> variants;  // of ours; none: the one that a plan would take
  std::string types;                  // for the file
  std::string out;                    // a file in Google Benchmark's form; empty: none
  bool check = true;                  // hold each output against `ref` first
};

// Prints a line for each layer: the medians of our first kernel's time and its share of the peak, of each other's time over that of the
// same round. Returns how many outputs were wrong. Throws usage_error on a bad expression, resource_error where the file cannot be written.
int alternate(const Layers& layers, std::span<const Library> libraries, ThreadPool& pool, const Machine& machine,
              const AlternateOptions& options);

}  // namespace darkroom::bench
