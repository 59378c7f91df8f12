// Weights on their way in: sizes first, then all matrices packed in one go, file pages let go of.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <mutex>

#include "executor.h"
#include "require.h"

#if defined(__linux__) && !defined(MADV_POPULATE_READ)
#define MADV_POPULATE_READ 22
#endif

namespace ff {
namespace {

constexpr size_t kGroupBytes = size_t{512} << 10;  // of a file, packed by one thread at a time
constexpr size_t kAheadGroups = 16;                // asked for before they are needed

// Some panels of one matrix, and the bytes of the file that they come from.
struct Group {
  int matrix;
  int64_t first, last;
  const uint8_t *begin, *end;
};

void add_groups(const FileMatrix& source, const Matrix& matrix, int id, std::vector<Group>& to) {
  const size_t row_bytes = source.bytes / static_cast<size_t>(source.rows);
  const int64_t step = std::max<int64_t>(1, kGroupBytes / (row_bytes * kPanelRows));
  for (int64_t first = 0; first < matrix.num_panels; first += step) {
    const int64_t last = std::min(first + step, matrix.num_panels);
    int64_t low = first * kPanelRows, high = std::min(last * kPanelRows, source.rows) - 1;
    if (source.row_order) {
      const auto [least, most] =
          std::minmax_element(source.row_order + low, source.row_order + high + 1);
      low = *least, high = *most;
    }
    to.push_back(
        {id, first, last, source.data + low * row_bytes, source.data + (high + 1) * row_bytes});
  }
}

// Advice on the pages that hold the group; they lie in a mapped file, so losing them costs time
// only. A kernel that does not know the advice is no error.
void advise(const Group& group, int advice) {
  static const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t begin = reinterpret_cast<uintptr_t>(group.begin) / page * page;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(group.end) + page - 1) / page * page;
  madvise(reinterpret_cast<void*>(begin), end - begin, advice);
}

}  // namespace

int Executor::add_matrix(const FileMatrix& shape) {
  require(weights_.bytes() == 0, "add_matrix: after pack()");
  matrices_.push_back(std::make_unique<Matrix>(shape_panels(shape)));
  packed_bytes_ += aligned(panels_bytes(*matrices_.back()));
  return static_cast<int>(matrices_.size()) - 1;
}

std::optional<Executor::Failure> Executor::pack(const std::vector<FileMatrix>& sources,
                                                bool mapped) {
  require(weights_.bytes() == 0 && sources.size() == matrices_.size(), "pack: once, all matrices");
  std::vector<Group> groups;
  for (size_t i = 0; i < sources.size(); ++i) {
    const FileMatrix& source = sources[i];
    const int id = static_cast<int>(i);
    try {
      const Matrix matrix = shape_panels(source);
      require(matrix.scheme == matrices_[i]->scheme && matrix.rows == matrices_[i]->rows &&
                  matrix.cols == matrices_[i]->cols,
              "not the matrix that was added");
      if (source.row_order)
        for (int64_t row = 0; row < source.rows; ++row)
          require(source.row_order[row] >= 0 && source.row_order[row] < source.rows, "row_order");
    } catch (const std::invalid_argument& error) {
      return Failure{id, error.what()};
    }
    add_groups(source, *matrices_[i], id, groups);
  }
  weights_ = Arena(packed_bytes_);
  uint8_t* to = weights_.data();
  for (auto& matrix : matrices_) {
    matrix->data = to;
    to += aligned(panels_bytes(*matrix));
  }
  std::atomic<size_t> next{0};
  std::mutex lock;
  std::optional<Failure> failure;
  threads_.run([&](int) {
    for (size_t i; (i = next.fetch_add(1)) < groups.size();) {
      const Group& group = groups[i];
      const Matrix& matrix = *matrices_[group.matrix];
      uint8_t* panels = weights_.data() + (matrix.data - weights_.data());
      if (mapped && i + kAheadGroups < groups.size())
        advise(groups[i + kAheadGroups], MADV_WILLNEED);
#ifdef MADV_POPULATE_READ
      if (mapped) advise(group, MADV_POPULATE_READ);
#endif
      try {
        for (int64_t panel = group.first; panel < group.last; ++panel)
          pack_panel(sources[group.matrix], matrix, panel, panels + panel * matrix.panel_bytes);
      } catch (const BadWeight& error) {
        std::lock_guard<std::mutex> guard(lock);
        if (!failure || group.matrix < failure->matrix) failure = {group.matrix, error.what()};
      }
      if (mapped) advise(group, MADV_DONTNEED);
    }
  });
  return failure;
}

Memory Executor::allocated() const {
  Memory memory{weights_.bytes(), kv_.bytes(), arena_.bytes() + scratch_arena_.bytes()};
  for (const auto& values : vectors_) memory.weight_bytes += values.size() * sizeof(float);
  return memory;
}

Memory Executor::memory(const Sizes& sizes) const {
  const Layout bytes = layout(sizes);
  Memory memory{Arena::rounded(packed_bytes_),
                Arena::rounded(bytes.kv_block * static_cast<size_t>(sizes.num_blocks)),
                Arena::rounded(static_cast<size_t>(sizes.arena_bytes)) +
                    Arena::rounded(bytes.scratch(threads_.count()))};
  for (const auto& values : vectors_) memory.weight_bytes += values.size() * sizeof(float);
  return memory;
}

}  // namespace ff
