#include "runtime/tensor_file.h"

#include "kernels/core/error.h"

namespace darkroom {

bool TensorFile::recognises(const std::string& path) {
  const MappedFile file(path);
  if (TorchFile::begins_like_one(file.text())) return true;
  return file.size() > 8 && file.text()[8] == '{' && file.text().substr(4, 4) == std::string_view("\0\0\0\0", 4);
}

TensorFile::TensorFile(const std::string& path) : path_(path) {
  if (TorchFile::begins_like_one(MappedFile(path).text())) {
    torch_ = std::make_unique<TorchFile>(path);
    tensors_ = torch_->tensors();
    return;
  }
  safetensors_ = std::make_unique<Safetensors>(path);
  metadata_ = safetensors_->metadata();
  for (const auto& [name, e] : safetensors_->entries())
    tensors_.emplace(name, StoredTensor{e.dtype_text, e.dtype, e.shape, {}, safetensors_->data(e), e.bytes});
}

const StoredTensor* TensorFile::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

void TensorFile::release(const StoredTensor& tensor) const {
  if (torch_)
    torch_->release(tensor);
  else
    safetensors_->release(tensor.data, tensor.bytes);
}

}  // namespace darkroom
