// The only file that knows Python: arrays in, arrays out, the interpreter lock released while a
// step runs. Every size is checked here or in Executor::check; nothing aborts.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "cpu_features.h"
#include "executor.h"
#include "require.h"

namespace nb = nanobind;
using ff::require;
using namespace nb::literals;

namespace {

using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using MutableBytes = nb::ndarray<uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Ints = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Ints2 = nb::ndarray<const int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Words2 = nb::ndarray<const uint32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Floats2 = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using OutInts = nb::ndarray<int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using OutInts2 = nb::ndarray<int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using OutFloats = nb::ndarray<float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using OutFloats2 = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

ff::Scheme scheme_of(const std::string& name) {
  for (int i = 0; i < static_cast<int>(std::size(ff::kSchemes)); ++i)
    if (name == ff::kSchemes[i].name) return static_cast<ff::Scheme>(i);
  throw std::invalid_argument("unknown dtype " + name);
}

ff::KvType kv_type_of(const std::string& name) {
  if (name == "f32") return ff::KvType::F32;
  if (name == "bf16") return ff::KvType::Bf16;
  require(name == "int8", "kv_dtype: f32, bf16 or int8");
  return ff::KvType::Int8;
}

// Sizes without data.
ff::FileMatrix shape_of(const std::string& dtype, int64_t rows, int64_t cols) {
  ff::FileMatrix shape{scheme_of(dtype), nullptr, 0, rows, cols, nullptr};
  const ff::SchemeInfo& scheme = ff::info(shape.scheme);
  require(rows > 0 && cols > 0 && rows <= (int64_t{1} << 31) && cols <= (int64_t{1} << 31),
          "matrix: sizes");
  shape.bytes = static_cast<size_t>(rows) * (cols / scheme.file_block) * scheme.file_bytes;
  return shape;
}

// Each source is (dtype, data, rows, cols, row_order or None, scales or None). Returns None, or
// which one cannot be used and why.
nb::object pack(ff::Executor& executor, nb::list items, bool mapped) {
  std::vector<ff::FileMatrix> sources;
  std::vector<Bytes> data;
  std::vector<Ints> orders;
  std::vector<Floats> scales;
  for (nb::handle item : items) {
    const auto source = nb::cast<nb::tuple>(item);
    require(source.size() == 6, "pack: (dtype, data, rows, cols, row_order, scales)");
    data.push_back(nb::cast<Bytes>(source[1]));
    sources.push_back({scheme_of(nb::cast<std::string>(source[0])), data.back().data(),
                       data.back().size(), nb::cast<int64_t>(source[2]),
                       nb::cast<int64_t>(source[3]), nullptr});
    const auto rows = static_cast<size_t>(sources.back().rows);
    auto refused = [&](const char* problem) { return nb::make_tuple(sources.size() - 1, problem); };
    if (!source[4].is_none()) {
      orders.push_back(nb::cast<Ints>(source[4]));
      if (orders.back().size() != rows) return refused("row_order: one entry a row");
      sources.back().row_order = orders.back().data();
    }
    if (!source[5].is_none()) {
      scales.push_back(nb::cast<Floats>(source[5]));
      if (scales.back().size() != rows) return refused("scales: one a row");
      sources.back().scales = scales.back().data();
    }
  }
  std::optional<ff::Executor::Failure> failure;
  {
    nb::gil_scoped_release release;
    failure = executor.pack(sources, mapped);
  }
  if (!failure) return nb::none();
  return nb::make_tuple(failure->matrix, failure->problem);
}

nb::dict as_dict(const ff::Memory& memory) {
  nb::dict bytes;
  bytes["weight_bytes"] = memory.weight_bytes;
  bytes["kv_bytes"] = memory.kv_bytes;
  bytes["buffer_bytes"] = memory.buffer_bytes;
  return bytes;
}

ff::Sizes sizes_of(nb::kwargs values) {
  for (const char* name :
       {"max_tokens", "max_sequences", "vocab_size", "max_model_len", "num_layers", "num_kv_heads",
        "head_dim", "num_blocks", "arena_bytes", "kv_dtype", "head_rows"})
    require(values.contains(name), std::string("sizes: no ") + name);
  auto get = [&](const char* name) { return nb::cast<int64_t>(values[name]); };
  auto whole = [&](const char* name) {
    const int64_t value = get(name);
    require(value > 0 && value <= INT32_MAX, std::string("sizes: ") + name);
    return static_cast<int>(value);
  };
  return {whole("max_tokens"), whole("max_sequences"),
          whole("vocab_size"), whole("max_model_len"),
          whole("num_layers"), whole("num_kv_heads"),
          whole("head_dim"),   get("num_blocks"),
          get("arena_bytes"),  kv_type_of(nb::cast<std::string>(values["kv_dtype"])),
          whole("head_rows")};
}

void add_op(ff::Executor& executor, const std::string& kind, nb::dict d) {
  static const char* kinds[] = {"embed",   "qkv",     "attention", "linear",
                                "gate_up", "lm_head", "add_norm"};
  ff::OpSpec spec{};
  int found = -1;
  for (int i = 0; i < static_cast<int>(std::size(kinds)); ++i)
    if (kind == kinds[i]) found = i;
  require(found >= 0, "unknown op " + kind);
  spec.kind = static_cast<ff::OpKind>(found);
  for (auto [key, item] : d) {
    const auto name = nb::cast<std::string>(key);
    if (name == "matrices") {
      spec.matrices = nb::cast<std::vector<int>>(item);
      continue;
    }
    bool known = false;
    const std::pair<const char*, int64_t*> offsets[] = {
        {"in", &spec.in}, {"out", &spec.out}, {"residual", &spec.residual}};
    for (auto [field, to] : offsets)
      if (name == field) *to = nb::cast<int64_t>(item), known = true;
    const std::pair<const char*, int*> ints[] = {
        {"norm", &spec.norm},         {"bias", &spec.bias},
        {"q_norm", &spec.q_norm},     {"k_norm", &spec.k_norm},
        {"inv_freq", &spec.inv_freq}, {"layer", &spec.layer},
        {"window", &spec.window},     {"num_q_heads", &spec.num_q_heads},
        {"head_dim", &spec.head_dim}, {"num_kv_heads", &spec.num_kv_heads},
        {"gelu", &spec.gelu}};
    for (auto [field, to] : ints)
      if (name == field) *to = nb::cast<int>(item), known = true;
    const std::pair<const char*, float*> floats[] = {{"norm_eps", &spec.norm_eps},
                                                     {"head_eps", &spec.head_eps},
                                                     {"scale", &spec.scale},
                                                     {"softcap", &spec.softcap}};
    for (auto [field, to] : floats)
      if (name == field) *to = nb::cast<float>(item), known = true;
    require(known, kind + ": unknown attribute " + name);
  }
  executor.add_op(spec);
}

int add_vector(ff::Executor& executor, Floats values) {
  return executor.add_vector(std::vector<float>(values.data(), values.data() + values.size()));
}

int step(ff::Executor& executor, Ints token_ids, Ints positions, Ints slot_mapping, Ints cu_seqlens,
         Ints seq_lens, Ints2 block_tables, Ints logit_rows, nb::object adapter_ids, Bytes rows,
         Ints history, Ints bias_ids, Floats bias_values, Words2 masks, OutInts tokens,
         OutFloats logprobs, OutInts ranks, OutInts2 top_ids, OutFloats2 top_logprobs,
         MutableBytes bad, nb::object logits, int max_steps, nb::object stop_ids,
         nb::object stop_starts, nb::object new_work) {
  ff::StepView v{};
  v.num_tokens = static_cast<int>(token_ids.size());
  v.num_sequences = static_cast<int>(seq_lens.size());
  v.num_rows = static_cast<int>(logit_rows.size());
  v.max_blocks = static_cast<int>(block_tables.shape(1));
  const size_t T = token_ids.size(), S = seq_lens.size(), R = logit_rows.size();
  require(positions.size() == T && slot_mapping.size() == T, "positions, slot_mapping: length T");
  require(cu_seqlens.size() == S + 1 && block_tables.shape(0) == S, "cu_seqlens, block_tables: S");
  require(rows.size() == R * sizeof(ff::SampleRow), "rows: one record a logit row");
  require(max_steps >= 1 && max_steps <= 1024, "max_steps: 1 to 1024");
  const size_t results = R * max_steps;
  require(tokens.size() == results && logprobs.size() == results && ranks.size() == results &&
              bad.size() == results,
          "results: length R times steps");
  require(top_ids.shape(0) == results && top_logprobs.shape(0) == results &&
              top_ids.shape(1) == top_logprobs.shape(1),
          "results: top_ids and top_logprobs are R times steps x K");
  require(bias_ids.size() == bias_values.size(), "bias_ids, bias_values: same length");
  v.token_ids = token_ids.data();
  v.positions = positions.data();
  v.slot_mapping = slot_mapping.data();
  v.cu_seqlens = cu_seqlens.data();
  v.seq_lens = seq_lens.data();
  v.block_tables = block_tables.data();
  v.logit_rows = logit_rows.data();
  Ints adapters;
  if (!adapter_ids.is_none()) {
    adapters = nb::cast<Ints>(adapter_ids);
    require(adapters.size() == T, "adapter_ids: length T");
    v.adapter_ids = adapters.data();
  }
  v.rows = reinterpret_cast<const ff::SampleRow*>(rows.data());
  v.sample = {history.data(), bias_ids.data(), bias_values.data(), masks.data(),
              static_cast<int>(masks.shape(1))};
  v.history_len = static_cast<int64_t>(history.size());
  v.bias_len = static_cast<int64_t>(bias_ids.size());
  v.num_masks = static_cast<int64_t>(masks.shape(0));
  v.tokens = tokens.data();
  v.logprobs = logprobs.data();
  v.ranks = ranks.data();
  v.top_ids = top_ids.data();
  v.top_logprobs = top_logprobs.data();
  v.top_stride = static_cast<int>(top_ids.shape(1));
  v.bad = bad.data();
  OutFloats2 logits_out;
  if (!logits.is_none()) {
    logits_out = nb::cast<OutFloats2>(logits);
    require(
        logits_out.shape(0) == R && static_cast<int>(logits_out.shape(1)) == executor.vocab_size(),
        "logits: R x V");
    v.logits = logits_out.data();
  }
  if (max_steps == 1) {
    nb::gil_scoped_release release;
    executor.step(v);
    return 1;
  }
  const auto ids = nb::cast<Ints>(stop_ids), starts = nb::cast<Ints>(stop_starts),
             flag = nb::cast<Ints>(new_work);
  require(starts.size() == R + 1 && flag.size() == 1, "stop_starts: R + 1; new_work: 1");
  const ff::Burst burst{max_steps, static_cast<int>(ids.size()), ids.data(), starts.data(),
                        flag.data()};
  nb::gil_scoped_release release;
  return executor.burst(v, burst);
}

// An adapter on its way into the executor that packed it.
struct PackedAdapter {
  std::unique_ptr<ff::Adapter> adapter;
};

// Each part is (op index, part, A as rank x K, B as N x rank, scale). May run beside a step.
PackedAdapter pack_adapter(const ff::Executor& executor, nb::list items) {
  std::vector<ff::AdapterPart> parts;
  std::vector<Floats2> alive;
  for (nb::handle item : items) {
    auto part = nb::cast<nb::tuple>(item);
    require(part.size() == 5, "adapter part: (op, part, A, B, scale)");
    auto a = nb::cast<Floats2>(part[2]);
    auto b = nb::cast<Floats2>(part[3]);
    require(a.shape(0) == b.shape(1), "adapter: A is rank x K, B is N x rank");
    require(a.shape(0) <= ff::kMaxRank, "adapter: rank must be 1 to 256");
    parts.push_back({nb::cast<int>(part[0]), nb::cast<int>(part[1]), static_cast<int>(a.shape(0)),
                     nb::cast<float>(part[4]), a.data(), b.data(), static_cast<int64_t>(b.shape(0)),
                     static_cast<int64_t>(a.shape(1))});
    alive.push_back(std::move(a));
    alive.push_back(std::move(b));
  }
  nb::gil_scoped_release release;
  return {executor.pack_adapter(parts)};
}

}  // namespace

NB_MODULE(_native, m) {
  m.def("isas", [] {
    std::vector<std::string> names;
    for (const ff::Kernels* kernels : ff::available_kernels()) names.push_back(kernels->name);
    return names;
  });
  m.def(
      "kv_head_bytes",  // of one head of one block, keys and values
      [](const std::string& kv_dtype, int head_dim) {
        return ff::portable_kernels().kv_head_bytes(kv_type_of(kv_dtype), head_dim);
      },
      "kv_dtype"_a, "head_dim"_a);
  nb::class_<PackedAdapter>(m, "PackedAdapter")
      .def_prop_ro("bytes", [](const PackedAdapter& packed) {
        return packed.adapter ? packed.adapter->memory.bytes() : 0;
      });
  nb::class_<ff::Executor>(m, "Executor")
      .def(
          "__init__",
          [](ff::Executor* self, int threads, const std::string& isa, bool f32_activations,
             bool turbo, const ff::Executor* beside) {
            require(threads >= 1 && threads <= 1024, "threads: 1 to 1024");
            const ff::Kernels* kernels = ff::find_kernels(isa);
            require(kernels, "this CPU has no " + isa + " kernels");
            const auto arithmetic = f32_activations ? ff::Arithmetic::Float
                                    : turbo         ? ff::Arithmetic::Turbo
                                                    : ff::Arithmetic::Exact;
            auto pool = beside ? beside->threads() : std::make_shared<ff::Threads>(threads);
            require(pool->count() == threads, "beside: has another number of threads");
            new (self) ff::Executor(std::move(pool), *kernels, arithmetic);
          },
          "threads"_a, "isa"_a = "", "f32_activations"_a = false, "turbo"_a = false,
          "beside"_a = nb::none())
      .def(
          "add_matrix",
          [](ff::Executor& self, const std::string& dtype, int64_t rows, int64_t cols) {
            return self.add_matrix(shape_of(dtype, rows, cols));
          },
          "dtype"_a, "rows"_a, "cols"_a)
      .def("add_vector", &add_vector, "values"_a)
      .def("add_op", &add_op, "kind"_a, "attrs"_a)
      .def("memory", [](const ff::Executor& self,
                        nb::kwargs sizes) { return as_dict(self.memory(sizes_of(sizes))); })
      .def_prop_ro("allocated", [](const ff::Executor& self) { return as_dict(self.allocated()); })
      .def("pack", &pack, "sources"_a, "mapped"_a)
      .def("finish",
           [](ff::Executor& self, nb::kwargs values) {
             const ff::Sizes sizes = sizes_of(values);
             nb::gil_scoped_release release;
             self.finish(sizes);
           })
      .def("pack_adapter", &pack_adapter, "parts"_a)
      .def("make_room_ready", &ff::Executor::make_room_ready,
           nb::call_guard<nb::gil_scoped_release>())
      .def(
          "add_adapter",
          [](ff::Executor& self, PackedAdapter& packed) {
            require(packed.adapter != nullptr, "adapter: added already");
            return self.add_adapter(std::move(packed.adapter));
          },
          "packed"_a)
      .def("remove_adapter", &ff::Executor::remove_adapter, "adapter_id"_a)
      .def("step", &step, "token_ids"_a, "positions"_a, "slot_mapping"_a, "cu_seqlens"_a,
           "seq_lens"_a, "block_tables"_a, "logit_rows"_a, "adapter_ids"_a.none(), "rows"_a,
           "history"_a, "bias_ids"_a, "bias_values"_a, "masks"_a, "tokens"_a, "logprobs"_a,
           "ranks"_a, "top_ids"_a, "top_logprobs"_a, "bad"_a, "logits"_a.none(), "max_steps"_a = 1,
           "stop_ids"_a = nb::none(), "stop_starts"_a = nb::none(), "new_work"_a = nb::none())
      .def("profile", &ff::Executor::profile, "on"_a)
      .def("op_times",  // (pack, run, wait) nanoseconds of each op
           [](const ff::Executor& self) {
             nb::list rows;
             for (const auto& time : self.op_times())
               rows.append(nb::make_tuple(time.pack_ns, time.run_ns, time.wait_ns));
             return rows;
           })
      .def_prop_ro("num_threads", &ff::Executor::num_threads)
      .def_prop_ro("isa", &ff::Executor::isa);
}
