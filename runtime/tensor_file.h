// A file of named tensors, whatever its format: safetensors, or what torch.save() wrote. Recognised by its first bytes.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "runtime/safetensors.h"
#include "runtime/torch_file.h"

namespace darkroom {

class TensorFile {
 public:
  // True where the file begins as one of the formats may: what else is wrong with it, the constructor says.
  static bool recognises(const std::string& path);

  // Maps the file and reads its table of contents. Throws file_error.
  explicit TensorFile(const std::string& path);

  const std::string& path() const { return path_; }
  const char* format() const { return torch_ ? "torch" : "safetensors"; }
  const std::map<std::string, StoredTensor, std::less<>>& tensors() const { return tensors_; }
  // Null where there is none.
  const StoredTensor* find(std::string_view name) const;
  // __metadata__ of a safetensors file.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  // What the pickle of a torch file says beside its tensors; null for safetensors.
  const TorchFile* torch() const { return torch_.get(); }
  // The tensor's pages may leave memory.
  void release(const StoredTensor& tensor) const;

 private:
  std::string path_;
  std::unique_ptr<Safetensors> safetensors_;
  std::unique_ptr<TorchFile> torch_;
  std::map<std::string, StoredTensor, std::less<>> tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace darkroom
