// A reader of the part of Python's pickle format that torch.save() writes: data in, a tree of plain values out.
//
// Nothing is called. A pickle names globals ("collections OrderedDict") and says what to call them with; the machine knows a
// short list of them (pickle.cpp) and what each would make, and refuses every other one by name. A value costs at least one
// byte of the pickle and there are at most kMaxPickleValues of them; texts are windows onto the pickle; there is no opcode that
// jumps: time and memory are bounded by the pickle's size.
// Source: the description of opcodes in CPython's pickletools; the layout of torch.save() in PyTorch's serialization notes.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/core/dtype.h"

namespace darkroom {

inline constexpr size_t kMaxPickleValues = 2'000'000;

using PickleId = uint32_t;  // index into PickleTree::values

struct PickleValue {
  enum class Kind : uint8_t {
    none,
    boolean,  // integer
    integer,
    real,
    string,   // text
    bytes,    // text
    tuple,    // items
    list,     // items
    dict,     // items: key, value, key, value, in the order of insertion
    global,   // text: "module name", one of the known ones
    object,   // what a known global made that is nothing to us; items: what it was made with, and its state
    storage,  // text: its key; integer: elements; dtype
    tensor,   // items: storage, offset, sizes (tuple), strides (tuple)
  };
  Kind kind = Kind::none;
  DType dtype = DType::none;    // storage: none for types that we have no use for
  std::string_view dtype_text;  // storage: "F32", as safetensors call it
  int64_t integer = 0;
  double real = 0;
  std::string_view text;
  std::vector<PickleId> items;
};

struct PickleTree {
  std::vector<PickleValue> values;
  PickleId root = 0;
  size_t bytes = 0;  // where the pickle ended

  const PickleValue& operator[](PickleId id) const { return values[id]; }
  // A dict's value by its string key; null where `dict` is no dict or has none.
  const PickleValue* find(const PickleValue& dict, std::string_view key) const;
};

// The texts of the tree are windows onto `pickle`, which must outlive it. `where` names it in errors. Throws file_error naming
// the byte, and the global or the opcode that is refused.
PickleTree parse_pickle(std::string_view pickle, const std::string& where);

}  // namespace darkroom
