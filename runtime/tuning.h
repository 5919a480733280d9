// Measured times of kernels, by call: a choice between them that does not rest on estimates. tune.h makes it; kept as JSON.
#pragma once

#include <map>
#include <string>

#include "kernels/core/kernel.h"

namespace darkroom {

class Tuning {
 public:
  using Times = std::map<std::string, double, std::less<>>;  // seconds, by variant

  // What a call is to tuning: op, attributes, dtypes, and the shapes of one sample. The batch is no part of it, or the bits of
  // a sample would depend on its company.
  static std::string key(const KernelCall& call);

  // Adds to what is known of a call, or replaces it.
  void set(const std::string& key, const Times& times);
  // Null where the call was not measured.
  const Times* find(const KernelCall& call) const;
  size_t size() const { return calls_.size(); }

  // Throws file_error, naming the file and the place. save() replaces the file as a whole.
  static Tuning load(const std::string& path);
  void save(const std::string& path, const std::string& machine) const;

 private:
  std::map<std::string, Times> calls_;
};

}  // namespace darkroom
