// A file that torch.save() wrote (.ckpt, .pt, .pth, .bin): a zip file with one pickle, data.pkl, and the storages beside it, or,
// as torch wrote them before version 1.6, pickles one after the other with the storages behind them.
//
// No code of the file runs: runtime/pickle.h. Every tensor is checked against the bytes that its storage has.
#pragma once

#include <map>
#include <string>

#include "runtime/mapped_file.h"
#include "runtime/pickle.h"
#include "runtime/tensor.h"

namespace darkroom {

class TorchFile {
 public:
  static bool begins_like_one(std::string_view text);

  // Maps the file and reads its pickle. Throws file_error.
  explicit TorchFile(const std::string& path);

  const std::string& path() const { return file_.path(); }
  // All that the pickle says.
  const PickleTree& tree() const { return tree_; }
  const PickleValue& root() const { return tree_[tree_.root]; }
  // The tensors, named by the keys that lead to them with dots between; a "state_dict" at the top is not part of the names,
  // and where there is one, what lies beside it (optimizers) is left out.
  const std::map<std::string, StoredTensor, std::less<>>& tensors() const { return tensors_; }
  // The tensor that a value of kind tensor is. Throws file_error where it does not fit into its storage.
  StoredTensor tensor(const PickleValue& value, const std::string& name) const;
  void release(const StoredTensor& t) const { file_.release(t.data, t.bytes); }

 private:
  void open_zip();
  void open_legacy();
  void collect();

  MappedFile file_;
  PickleTree tree_;
  std::map<std::string, std::span<const std::byte>, std::less<>> storages_;  // by key
  std::map<std::string, StoredTensor, std::less<>> tensors_;
};

}  // namespace darkroom
