#include "tools/common/model_cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <vector>

#include "kernels/core/error.h"
#include "model/convert.h"
#include "model/sdw_checkpoint.h"
#include "runtime/atomic_file.h"
#include "runtime/file_hash.h"
#include "runtime/mapped_file.h"
#include "tools/common/progress.h"

namespace darkroom {

namespace fs = std::filesystem;

namespace {

constexpr double kMiB = 1 << 20;
constexpr const char* kRules = "1";  // of conversion: to be counted up when the same file would become another .sdw

// Held while a file of the cache is made; another process waits for it.
class FileLock {
 public:
  explicit FileLock(const std::string& path) : file_(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
    if (file_ < 0) throw file_error("{}: cannot be written: {}", path, std::strerror(errno));
    while (flock(file_, LOCK_EX) != 0)
      if (errno != EINTR) throw file_error("{}: cannot be locked: {}", path, std::strerror(errno));
  }
  ~FileLock() { close(file_); }
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int file_;
};

// The hash of a file's content. Remembered by path, size and time of change: a checkpoint of gigabytes is read once for it.
std::string remembered_hash(const std::string& path, const std::string& folder) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) throw file_error("{}: {}", path, std::strerror(errno));
  const std::string full = fs::canonical(path).string();
  const std::string stamp =
      fmt::format("{} {} {}.{:09} {}\n", full, info.st_size, info.st_mtim.tv_sec, info.st_mtim.tv_nsec, info.st_ino);
  const std::string note = folder + "/" + text_hash(full) + ".hash";
  if (fs::exists(note)) {
    const std::string text = read_text_file(note);
    if (text.starts_with(stamp) && text.size() == stamp.size() + 32) return text.substr(stamp.size());
  }
  std::string hash = file_hash(path);
  const std::string text = stamp + hash;
  AtomicFile file(note);
  file.write(text.data(), text.size());
  file.commit();
  return hash;
}

// Of a file, or of the texts in a folder.
std::string hash_of_option(const std::string& path) {
  if (path.empty()) return "";
  if (!fs::is_directory(path)) return file_hash(path);
  std::vector<std::string> parts;
  for (const auto& entry : fs::recursive_directory_iterator(path))
    if (entry.is_regular_file() && (entry.path().extension() == ".json" || entry.path().extension() == ".txt"))
      parts.push_back(entry.path().lexically_relative(path).string() + " " +
                      (entry.file_size() > 0 ? file_hash(entry.path().string()) : ""));
  std::ranges::sort(parts);
  std::string all;
  for (const std::string& part : parts) all += part + "\n";
  return text_hash(all);
}

struct Cached {
  fs::path path;
  uint64_t bytes;
  fs::file_time_type used;
};
std::vector<Cached> cached_models(const std::string& folder) {
  std::vector<Cached> all;
  std::error_code error;  // another process may take a file away meanwhile
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().extension() != ".sdw") continue;
    const uint64_t bytes = entry.file_size(error);
    if (!error) all.push_back({entry.path(), bytes, entry.last_write_time(error)});
  }
  std::ranges::sort(all, {}, &Cached::used);
  return all;
}

uint64_t total_of(const std::vector<Cached>& models) {
  uint64_t total = 0;
  for (const Cached& m : models) total += m.bytes;
  return total;
}

// Takes away what was not used for longest, until `bytes` more fit. A process that uses a file keeps it until it ends.
void make_room(const std::string& folder, uint64_t bytes, uint64_t limit) {
  const std::vector<Cached> models = cached_models(folder);
  uint64_t total = total_of(models);
  for (const Cached& m : models) {
    if (total + bytes <= limit) return;
    std::error_code error;
    fs::remove(m.path, error);
    fmt::print(stderr, "cache: {} ({:.0f} MiB) was not used for longest and is gone\n", m.path.filename().string(),
               double(m.bytes) / kMiB);
    total -= m.bytes;
  }
}

}  // namespace

std::string cache_folder() {
  if (const char* named = std::getenv("DARKROOM_CACHE")) return named;
  if (const char* cache = std::getenv("XDG_CACHE_HOME")) return std::string(cache) + "/darkroom/models";
  if (const char* home = std::getenv("HOME")) return std::string(home) + "/.cache/darkroom/models";
  throw usage_error("there is no HOME for a cache folder: set DARKROOM_CACHE, or --no-cache");
}

std::unique_ptr<Checkpoint> open_cached(const std::string& path, const CheckpointOptions& o,
                                        const CacheOptions& cache) {
  const std::string folder = cache.folder.empty() ? cache_folder() : cache.folder;
  std::error_code error;
  fs::create_directories(folder, error);
  if (error)
    throw file_error("{}: the cache folder cannot be made: {} (--no-cache does without)", folder, error.message());
  const std::string prediction = !o.prediction ? "default" : *o.prediction == Prediction::v ? "v" : "epsilon";
  std::string vae;
  for (const std::string& file : o.vae) vae += hash_of_option(file);
  const std::string key =
      text_hash(fmt::format("{} {} {} {} {} {} {}", kRules, remembered_hash(path, folder), prediction, o.ema, vae,
                            hash_of_option(o.tokenizer), hash_of_option(o.configs)));
  const std::string target = folder + "/" + key + ".sdw";
  if (!fs::exists(target)) {
    const FileLock lock(folder + "/" + key + ".lock");
    if (!fs::exists(target)) {
      const std::unique_ptr<Checkpoint> source = open_checkpoint(path, o);
      for (const std::string& line : source->evidence()) fmt::print(stderr, "{}\n", line);
      const uint64_t bytes = fs::file_size(path);
      if (bytes > cache.limit_bytes)
        throw resource_error("{}: {:.0f} MiB do not fit into a cache of {:.0f} MiB: --cache-limit, or --no-cache", path,
                             double(bytes) / kMiB, double(cache.limit_bytes) / kMiB);
      make_room(folder, bytes, cache.limit_bytes);
      fmt::print(stderr, "converting once, into {} (about {:.0f} MiB; the cache holds {:.0f} of {:.0f} MiB)\n", target,
                 double(bytes) / kMiB, double(total_of(cached_models(folder))) / kMiB,
                 double(cache.limit_bytes) / kMiB);
      ConvertOptions options;
      options.source_name = fs::path(path).filename().string();
      ProgressBar bar("convert", "MiB", cache.quiet);
      const bool done = convert(
          *source, target, options,
          [&](uint64_t n, uint64_t total) { bar.update(double(n) / kMiB, double(total) / kMiB); }, cache.cancel);
      bar.finish();
      if (!done) return nullptr;
    }
  }
  fs::last_write_time(target, fs::file_time_type::clock::now(), error);  // used now
  return std::make_unique<SdwCheckpoint>(target);
}

}  // namespace darkroom
