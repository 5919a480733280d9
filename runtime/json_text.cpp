#include "runtime/json_text.h"

#include <set>
#include <string>
#include <vector>

#include "kernels/core/error.h"

namespace darkroom {

namespace {

using nlohmann::json;

// Sees the text once before the library makes values of it. (The library's own callbacks would do, but with them it looks through an
// object's members anew at the end of each of them.)
class Watch : public nlohmann::json_sax<json> {
 public:
  Watch(std::string_view where, const JsonLimits& limits) : where_(where), limits_(limits) {}

  bool null() override { return value(); }
  bool boolean(bool) override { return value(); }
  bool number_integer(number_integer_t) override { return value(); }
  bool number_unsigned(number_unsigned_t) override { return value(); }
  bool number_float(number_float_t, const string_t&) override { return value(); }
  bool string(string_t&) override { return value(); }
  bool binary(binary_t&) override { return value(); }
  bool start_array(size_t) override { return open(); }
  bool end_array() override { return close(); }
  bool start_object(size_t) override { return open(); }
  bool end_object() override { return close(); }
  bool key(string_t& name) override {
    Object& object = open_.back();
    if (++object.count > limits_.names)
      throw file_error("{}: JSON with more than {} names in an object", where_, limits_.names);
    if (limits_.no_name_twice && !object.names.insert(name).second)
      throw file_error("{}: JSON with the name {} twice", where_, name);
    return true;
  }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& e) override {
    throw file_error("{}: no valid JSON: {}", where_, e.what());
  }

 private:
  struct Object {
    size_t count = 0;
    std::set<std::string> names;
  };

  bool value() {
    if (++values_ > limits_.values) throw file_error("{}: JSON with more than {} values", where_, limits_.values);
    return true;
  }
  bool open() {
    if (open_.size() == size_t(limits_.depth))
      throw file_error("{}: JSON with more than {} brackets in each other", where_, limits_.depth);
    open_.emplace_back();
    return value();
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  std::string_view where_;
  const JsonLimits& limits_;
  std::vector<Object> open_;
  size_t values_ = 0;
};

}  // namespace

json parse_json(std::string_view text, std::string_view where, const JsonLimits& limits) {
  Watch watch(where, limits);
  json::sax_parse(text, &watch);
  return json::parse(text);
}

}  // namespace darkroom
