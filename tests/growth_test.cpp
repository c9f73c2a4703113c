// SPDX-License-Identifier: Apache-2.0
//
// Structs of callers compiled against an older header (shorter) and a newer one (longer).
#include <functional>

#include "adamw_support.hpp"
#include "executors.hpp"
#include "growth_support.hpp"
#include "muon_support.hpp"

namespace steepest_test {
namespace {

struct init_row {
  const char* name;
  steepest_status (*init)(void*, std::size_t);
  bytes image;  // of the INIT macro
};

std::vector<init_row> init_rows() {
  const steepest_executor executor = STEEPEST_EXECUTOR_INIT;
  const steepest_allocator allocator = STEEPEST_ALLOCATOR_INIT;
  const steepest_context_options options = STEEPEST_CONTEXT_OPTIONS_INIT;
  const steepest_step_stats stats = STEEPEST_STEP_STATS_INIT;
  const steepest_adamw_config config = STEEPEST_ADAMW_CONFIG_INIT;
  const steepest_adamw_tensor tensor = STEEPEST_ADAMW_TENSOR_INIT;
  const steepest_vector vector = STEEPEST_VECTOR_INIT;
  const steepest_workspace workspace = STEEPEST_WORKSPACE_INIT;
  const steepest_msign_config msign_config = STEEPEST_MSIGN_CONFIG_INIT;
  const steepest_msign_stats msign_stats = STEEPEST_MSIGN_STATS_INIT;
  const steepest_muon_config muon_config = STEEPEST_MUON_CONFIG_INIT;
  const steepest_muon_tensor muon_tensor = STEEPEST_MUON_TENSOR_INIT;
  const steepest_schedule schedule = STEEPEST_SCHEDULE_INIT;
  return {
      {"executor_init", steepest_executor_init, to_bytes(executor)},
      {"allocator_init", steepest_allocator_init, to_bytes(allocator)},
      {"context_options_init", steepest_context_options_init, to_bytes(options)},
      {"step_stats_init", steepest_step_stats_init, to_bytes(stats)},
      {"adamw_config_init", steepest_adamw_config_init, to_bytes(config)},
      {"adamw_tensor_init", steepest_adamw_tensor_init, to_bytes(tensor)},
      {"vector_init", steepest_vector_init, to_bytes(vector)},
      {"workspace_init", steepest_workspace_init, to_bytes(workspace)},
      {"msign_config_init", steepest_msign_config_init, to_bytes(msign_config)},
      {"msign_stats_init", steepest_msign_stats_init, to_bytes(msign_stats)},
      {"muon_config_init", steepest_muon_config_init, to_bytes(muon_config)},
      {"muon_tensor_init", steepest_muon_tensor_init, to_bytes(muon_tensor)},
      {"schedule_init", steepest_schedule_init, to_bytes(schedule)},
  };
}

// The macro's values as far as the caller's struct reaches, zeros beyond what the library knows,
// and not a byte after it.
TEST(init, fills_any_size) {
  for (const init_row& row : init_rows()) {
    for (std::size_t size = 16; size <= row.image.size() + 32; size += 8) {
      SCOPED_TRACE(testing::Message() << row.name << " size " << size);
      bytes expected = row.image;
      expected.resize(row.image.size() + 32, 0);
      set_size(expected.data(), size);
      std::fill(expected.begin() + static_cast<std::ptrdiff_t>(size), expected.end(), 0xcc);
      bytes got(row.image.size() + 32, 0xcc);
      EXPECT_OK(row.init(got.data(), size));
      EXPECT_EQ(got, expected);
    }
  }
}

TEST(init, refuses_other_sizes_and_null) {
  for (const init_row& row : init_rows()) {
    for (const std::size_t size : {0, 1, 8, 15, 17, 20, 28, 1001}) {
      bytes got(2000, 0xcc);
      EXPECT_EQ(row.init(got.data(), size), STEEPEST_E_INVALID_ARGUMENT);
      EXPECT_TRUE(error_names(row.name) && error_names("struct_size")) << steepest_last_error();
      EXPECT_EQ(got, bytes(2000, 0xcc));
    }
    EXPECT_EQ(row.init(nullptr, row.image.size()), STEEPEST_E_INVALID_ARGUMENT);
    EXPECT_TRUE(error_names(row.name) && error_names("null")) << steepest_last_error();
  }
}

class growth : public testing::Test {
 protected:
  growth() {
    random_source random(101);
    arrays_ = random_arrays<float>(random, 100, false);
    config_.flags = STEEPEST_ADAMW_MAXIMIZE;
    config_.lr = 0.25;
    config_.beta1 = 0.5;
    config_.beta2 = 0.75;
    config_.eps = 0.125;
    config_.weight_decay = 0.375;
    config_.grad_scale = 3;
    config_.step = 9;
    config_.seed = 4;
  }

  steepest_status step(const void* config, const void* tensors, std::int64_t count = 1,
                       void* stats = nullptr) {
    return steepest_adamw_step(nullptr, static_cast<const steepest_adamw_config*>(config),
                               static_cast<const steepest_adamw_tensor*>(tensors), count,
                               static_cast<steepest_step_stats*>(stats));
  }

  steepest_adamw_config config_ = make_config();
  adamw_arrays<float> arrays_;
};

TEST_F(growth, config_of_any_size) {
  for (std::size_t size = 16; size <= sizeof(config_) + 32; size += 8) {
    SCOPED_TRACE(size);
    auto a = arrays_, b = arrays_;
    const steepest_adamw_config whole = completed(config_, size, make_config());
    ASSERT_OK(run_step(nullptr, whole, a));
    const steepest_adamw_tensor tensor = make_tensor(b);
    const bytes config = resized(std::vector{config_}, size);
    ASSERT_OK(step(config.data(), &tensor));
    EXPECT_TRUE(same_bits(a, b));
  }
}

TEST_F(growth, tensors_of_any_size) {
  const steepest_adamw_tensor init = STEEPEST_ADAMW_TENSOR_INIT;
  steepest_adamw_config other = config_;
  other.flags = STEEPEST_ADAMW_AMSGRAD | STEEPEST_ADAMW_EMIT_DELTA;
  for (std::size_t size = 48; size <= sizeof(init) + 32; size += 8) {
    SCOPED_TRACE(size);
    auto a = arrays_, b = arrays_;
    const auto split = [&](adamw_arrays<float>& arrays) {
      std::vector<steepest_adamw_tensor> tensors;
      for (std::size_t i = 0; i < 4; ++i) tensors.push_back(make_tensor(arrays, 25 * i, 25));
      if (size >= 88) tensors[2].config = &other;
      return tensors;
    };
    std::vector<steepest_adamw_tensor> whole = split(a);
    for (auto& tensor : whole) tensor = completed(tensor, size, init);
    ASSERT_OK(step(&config_, whole.data(), 4));
    const bytes tensors = resized(split(b), size);
    ASSERT_OK(step(&config_, tensors.data(), 4));
    EXPECT_TRUE(same_bits(a, b));
    EXPECT_FALSE(same_bits(a, arrays_));
  }
  // Too short to have what the flags or the rules ask for: a field that is missing is null.
  for (const std::size_t size : {16, 24, 32, 40, 72}) {
    auto a = arrays_;
    const bytes tensors = resized(std::vector{make_tensor(a)}, size);
    EXPECT_EQ(step(size == 72 ? &other : &config_, tensors.data()), STEEPEST_E_INVALID_ARGUMENT);
    EXPECT_TRUE(error_names("is null")) << steepest_last_error();
    EXPECT_TRUE(same_bits(a, arrays_));
  }
}

TEST_F(growth, stats_of_any_size) {
  std::vector<steepest_step_stats> whole(3, STEEPEST_STEP_STATS_INIT);
  auto a = arrays_;
  std::vector<steepest_adamw_tensor> tensors;
  for (std::size_t i = 0; i < 3; ++i) tensors.push_back(make_tensor(a, 30 * i, 30));
  ASSERT_OK(step(&config_, tensors.data(), 3, whole.data()));
  const std::vector<steepest_step_stats> empty(3, STEEPEST_STEP_STATS_INIT);
  for (std::size_t size = 16; size <= sizeof(steepest_step_stats) + 32; size += 8) {
    SCOPED_TRACE(size);
    a = arrays_;
    bytes stats = resized(empty, size);
    ASSERT_OK(step(&config_, tensors.data(), 3, stats.data()));
    EXPECT_EQ(stats, resized(whole, size));
  }
}

TEST_F(growth, vectors_of_any_size) {
  const steepest_vector init = STEEPEST_VECTOR_INIT;
  const float values[] = {3, 4, 12};
  for (std::size_t size = 24; size <= sizeof(init) + 32; size += 8) {
    std::vector<steepest_vector> vectors(3, init);
    for (std::size_t i = 0; i < 3; ++i) {
      vectors[i].count = 1;
      vectors[i].data = &values[i];
    }
    const bytes all = resized(vectors, size);
    double norm = 0;
    ASSERT_OK(steepest_grad_norm(nullptr, reinterpret_cast<const steepest_vector*>(all.data()), 3,
                                 &norm, nullptr));
    EXPECT_EQ(norm, 13);
  }
}

TEST_F(growth, context_options_of_any_size) {
  reversed_executor own_executor(3);
  counting_allocator own_allocator;
  const steepest_executor executor = own_executor.interface();
  const steepest_allocator allocator = own_allocator.interface();
  const auto executor_bytes = resized(std::vector{executor}, sizeof(executor) + 16);
  const auto allocator_bytes = resized(std::vector{allocator}, sizeof(allocator) + 16);
  for (const bool longer : {false, true}) {
    steepest_context_options options = STEEPEST_CONTEXT_OPTIONS_INIT;
    options.max_isa = STEEPEST_ISA_GENERIC;
    options.executor =
        longer ? reinterpret_cast<const steepest_executor*>(executor_bytes.data()) : &executor;
    options.allocator =
        longer ? reinterpret_cast<const steepest_allocator*>(allocator_bytes.data()) : &allocator;
    for (std::size_t size = 16; size <= sizeof(options) + 32; size += 8) {
      SCOPED_TRACE(size);
      const bytes all = resized(std::vector{options}, size);
      steepest_context* context = nullptr;
      const std::int64_t calls = own_allocator.calls;
      ASSERT_OK(steepest_context_create(
          reinterpret_cast<const steepest_context_options*>(all.data()), &context));
      const context_pointer owner(context);
      EXPECT_EQ(steepest_context_isa(context), size >= 24 ? STEEPEST_ISA_GENERIC : levels().back());
      EXPECT_EQ(steepest_context_threads(context),
                size >= 32 ? 3 : steepest_context_threads(nullptr));
      EXPECT_EQ(own_allocator.calls > calls, size >= 40);
    }
  }
  EXPECT_TRUE(own_allocator.all_released());
}

// Each struct that a call reads, in an array of two where it can be one: `call` gets the bytes of
// the struct at `index` and returns what the library says.
struct refusal_row {
  const char* name;
  bytes image;
  std::size_t index;
  std::function<steepest_status(const bytes&)> call;
};

void check_refusals(const std::vector<refusal_row>& rows) {
  for (const refusal_row& row : rows) {
    SCOPED_TRACE(row.name);
    const std::size_t known = row.image.size();
    const auto elements = [&](std::size_t size) {  // one, or two when the second is the culprit
      bytes all((row.index + 1) * size, 0);
      for (std::size_t i = 0; i <= row.index; ++i) {
        std::copy(row.image.begin(), row.image.end(), all.begin() + std::ptrdiff_t(i * size));
        set_size(all.data() + i * size, size);
      }
      return all;
    };
    // A byte of a field that only a newer library knows.
    for (const std::size_t at : {known, known + 7, known + 23}) {
      bytes all = elements(known + 24);
      all[row.index * (known + 24) + at] = 1;
      EXPECT_EQ(row.call(all), STEEPEST_E_UNSUPPORTED) << "byte " << at;
      EXPECT_TRUE(error_names(row.name)) << steepest_last_error();
    }
    // A size that no version has, in the first element (and so for all).
    for (const std::size_t size :
         {std::size_t{0}, std::size_t{8}, known - 4, known + 1, known + 12, SIZE_MAX - 7}) {
      bytes all = elements(known + 24);
      set_size(all.data(), size);
      EXPECT_EQ(row.call(all), STEEPEST_E_INVALID_ARGUMENT) << "size " << size;
      EXPECT_TRUE(error_names("struct_size")) << steepest_last_error();
    }
    // Elements that disagree on their size.
    for (const std::size_t size : {known - 8, known + 8}) {
      if (row.index == 0) continue;
      bytes all = elements(known);
      set_size(all.data() + row.index * known, size);
      EXPECT_EQ(row.call(all), STEEPEST_E_INVALID_ARGUMENT);
      EXPECT_TRUE(error_names(row.name) && error_names("struct_size")) << steepest_last_error();
    }
  }
}

TEST_F(growth, what_is_refused) {
  random_source random(102);
  auto a = random_arrays<float>(random, 64, true);
  const auto before = a;
  std::vector<steepest_adamw_tensor> tensors{make_tensor(a, 0, 32), make_tensor(a, 32, 32)};
  const std::vector<steepest_step_stats> stats(2, STEEPEST_STEP_STATS_INIT);
  const float value = 1;
  steepest_vector vector = STEEPEST_VECTOR_INIT;
  vector.count = 1;
  vector.data = &value;
  reversed_executor own_executor(2);
  counting_allocator own_allocator;
  const steepest_context_options options = STEEPEST_CONTEXT_OPTIONS_INIT;
  const auto create = [&](const void* wanted, const bytes* executor, const bytes* allocator) {
    steepest_context_options with = options;
    if (executor != nullptr) {
      with.executor = reinterpret_cast<const steepest_executor*>(executor->data());
    }
    if (allocator != nullptr) {
      with.allocator = reinterpret_cast<const steepest_allocator*>(allocator->data());
    }
    steepest_context* context = nullptr;
    const auto* chosen = static_cast<const steepest_context_options*>(wanted);
    const steepest_status status =
        steepest_context_create(chosen != nullptr ? chosen : &with, &context);
    EXPECT_EQ(context, nullptr);
    steepest_context_destroy(context);
    return status;
  };
  const std::vector<refusal_row> rows = {
      {"config", to_bytes(config_), 0,
       [&](const bytes& b) { return step(b.data(), tensors.data(), 2); }},
      {"tensors[1].config", to_bytes(config_), 0,
       [&](const bytes& b) {
         auto own = tensors;
         own[1].config = reinterpret_cast<const steepest_adamw_config*>(b.data());
         return step(&config_, own.data(), 2);
       }},
      {"tensors[1]", to_bytes(tensors[0]), 1,
       [&](const bytes& b) { return step(&config_, b.data(), 2); }},
      {"stats[1]", to_bytes(stats[0]), 1,
       [&](const bytes& b) {
         bytes copy = b;
         const steepest_status status = step(&config_, tensors.data(), 2, copy.data());
         EXPECT_EQ(copy, b);
         return status;
       }},
      {"vectors[1]", to_bytes(vector), 1,
       [&](const bytes& b) {
         double norm = -7;
         const auto* vectors = reinterpret_cast<const steepest_vector*>(b.data());
         const steepest_status status = steepest_grad_norm(nullptr, vectors, 2, &norm, nullptr);
         EXPECT_EQ(norm, -7);
         return status;
       }},
      {"options", to_bytes(options), 0,
       [&](const bytes& b) { return create(b.data(), nullptr, nullptr); }},
      {"options.executor", to_bytes(own_executor.interface()), 0,
       [&](const bytes& b) { return create(nullptr, &b, nullptr); }},
      {"options.allocator", to_bytes(own_allocator.interface()), 0,
       [&](const bytes& b) { return create(nullptr, nullptr, &b); }},
  };
  check_refusals(rows);
  EXPECT_TRUE(same_bits(a, before));
  EXPECT_EQ(own_allocator.calls, 0);
}

// ------------------------------------------------------------------ msign and Muon

class muon_growth : public testing::Test {
 protected:
  muon_growth() {
    random_source random(103);
    muon_layout layout;
    layout.rows = 6;
    layout.cols = 14;
    layout.blocks = {2, 4};
    layout.fan_out = 50;
    layout.fan_in = 60;
    for (int i = 0; i < 2; ++i) matrices_.push_back(random_matrices(random, layout));
    msign_.method = STEEPEST_MSIGN_RATIONAL;
    msign_.steps = 4;
    msign_.coefficients = STEEPEST_COEF_KELLER;
    msign_.normalization = STEEPEST_NORM_FROBENIUS;
    msign_.lower_bound = 0.25;
    msign_.norm_bound = 9;
    msign_.rank_tolerance = 0.5;
    msign_.compute_dtype = STEEPEST_F64;
    msign_.custom_count = 3;
    config_.flags = STEEPEST_MUON_MAXIMIZE;
    config_.lr = 0.25;
    config_.momentum = 0.5;
    config_.weight_decay = 0.375;
    config_.scale_value = 0.75;
    config_.grad_scale = 3;
    config_.step = 9;
    config_.seed = 4;
    config_.momentum_kind = STEEPEST_MOMENTUM_CLASSIC;
    config_.scale_mode = STEEPEST_SCALE_EXACT_RMS;
    config_.msign = &msign_;
  }

  static steepest_status step(const void* config, const void* tensors, std::int64_t count,
                              void* stats = nullptr, const void* workspace = nullptr) {
    return steepest_muon_step(nullptr, static_cast<const steepest_muon_config*>(config),
                              static_cast<const steepest_muon_tensor*>(tensors), count,
                              static_cast<const steepest_workspace*>(workspace),
                              static_cast<steepest_step_stats*>(stats));
  }
  static std::vector<steepest_muon_tensor> tensors_of(std::vector<muon_matrices>& matrices) {
    std::vector<steepest_muon_tensor> tensors;
    for (muon_matrices& m : matrices) tensors.push_back(m.tensor());
    return tensors;
  }
  static bool same(const std::vector<muon_matrices>& a, const std::vector<muon_matrices>& b) {
    return same_bits(a[0], b[0]) && same_bits(a[1], b[1]);
  }

  steepest_msign_config msign_ = make_msign_config();
  steepest_muon_config config_ = make_muon_config();
  std::vector<muon_matrices> matrices_;
};

TEST_F(muon_growth, config_of_any_size) {
  for (std::size_t size = 16; size <= sizeof(config_) + 32; size += 8) {
    SCOPED_TRACE(size);
    auto a = matrices_, b = matrices_;
    const steepest_muon_config whole = completed(config_, size, make_muon_config());
    ASSERT_OK(step(&whole, tensors_of(a).data(), 2));
    ASSERT_OK(step(resized(std::vector{config_}, size).data(), tensors_of(b).data(), 2));
    EXPECT_TRUE(same(a, b));
    EXPECT_FALSE(same(a, matrices_));
  }
}

TEST_F(muon_growth, msign_config_of_any_size) {
  for (std::size_t size = 16; size <= sizeof(msign_) + 32; size += 8) {
    SCOPED_TRACE(size);
    auto a = matrices_, b = matrices_;
    const steepest_msign_config whole = completed(msign_, size, make_msign_config());
    const bytes given = resized(std::vector{msign_}, size);
    config_.msign = &whole;
    ASSERT_OK(step(&config_, tensors_of(a).data(), 2));
    config_.msign = reinterpret_cast<const steepest_msign_config*>(given.data());
    ASSERT_OK(step(&config_, tensors_of(b).data(), 2));
    EXPECT_TRUE(same(a, b));
    stored x = matrices_[0].grad, y = x;
    ASSERT_OK(steepest_msign(nullptr, &whole, 6, 14, STEEPEST_F32, x.data(), 0, x.data(), 0,
                             nullptr, nullptr));
    ASSERT_OK(steepest_msign(nullptr, config_.msign, 6, 14, STEEPEST_F32, y.data(), 0, y.data(), 0,
                             nullptr, nullptr));
    EXPECT_TRUE(x == y);
  }
}

TEST_F(muon_growth, tensors_of_any_size) {
  const steepest_muon_tensor init = STEEPEST_MUON_TENSOR_INIT;
  steepest_muon_config other = config_;
  other.flags = STEEPEST_MUON_EMIT_DELTA;
  // From where all that is needed is there. A caller who knows `blocks` knows `block_count`.
  for (std::size_t size = 96; size <= sizeof(init) + 32; size += 8) {
    if (size == 128) continue;
    SCOPED_TRACE(size);
    auto a = matrices_, b = matrices_;
    const auto list = [&](std::vector<muon_matrices>& matrices) {
      std::vector<steepest_muon_tensor> tensors = tensors_of(matrices);
      tensors[1].config = &other;
      return tensors;
    };
    std::vector<steepest_muon_tensor> whole = list(a);
    for (auto& tensor : whole) tensor = completed(tensor, size, init);
    ASSERT_OK(step(&config_, whole.data(), 2));
    ASSERT_OK(step(&config_, resized(list(b), size).data(), 2));
    EXPECT_TRUE(same(a, b));
    EXPECT_FALSE(same(a, matrices_));
  }
  // A field that is missing is null or zero.
  for (const std::size_t size : {24, 72, 80, 88, 96, 128}) {
    auto a = matrices_;
    const bytes tensors = resized(tensors_of(a), size);
    EXPECT_EQ(step(size == 96 ? &other : &config_, tensors.data(), 2),
              size == 128 ? STEEPEST_E_SHAPE : STEEPEST_E_INVALID_ARGUMENT);
    EXPECT_TRUE(error_names(size == 128 ? "block_count" : "is null")) << steepest_last_error();
    EXPECT_TRUE(same(a, matrices_));
  }
  EXPECT_OK(step(&config_, resized(tensors_of(matrices_), 16).data(), 2));  // without elements
}

TEST_F(muon_growth, stats_of_any_size) {
  std::vector<steepest_step_stats> whole(2, STEEPEST_STEP_STATS_INIT);
  std::vector<steepest_msign_stats> sign(1, STEEPEST_MSIGN_STATS_INIT);
  auto a = matrices_;
  ASSERT_OK(step(&config_, tensors_of(a).data(), 2, whole.data()));
  const auto run_msign = [&](void* stats) {
    stored x = matrices_[0].grad;
    return steepest_msign(nullptr, &msign_, 6, 14, STEEPEST_F32, x.data(), 0, x.data(), 0, nullptr,
                          static_cast<steepest_msign_stats*>(stats));
  };
  ASSERT_OK(run_msign(sign.data()));
  const std::vector<steepest_step_stats> empty(2, STEEPEST_STEP_STATS_INIT);
  const std::vector<steepest_msign_stats> empty_sign(1, STEEPEST_MSIGN_STATS_INIT);
  for (std::size_t size = 16; size <= sizeof(steepest_step_stats) + 32; size += 8) {
    SCOPED_TRACE(size);
    a = matrices_;
    bytes stats = resized(empty, size);
    ASSERT_OK(step(&config_, tensors_of(a).data(), 2, stats.data()));
    EXPECT_EQ(stats, resized(whole, size));
    stats = resized(empty_sign, size);
    ASSERT_OK(run_msign(stats.data()));
    EXPECT_EQ(stats, resized(sign, size));
  }
}

TEST_F(muon_growth, workspace_of_any_size) {
  const auto tensors = tensors_of(matrices_);
  std::size_t needed = 0;
  ASSERT_OK(steepest_muon_workspace_size(nullptr, &config_, tensors.data(), 2, &needed));
  std::vector<unsigned char> memory(needed);
  steepest_workspace workspace = STEEPEST_WORKSPACE_INIT;
  workspace.data = memory.data();
  workspace.bytes = needed;
  for (std::size_t size = 16; size <= sizeof(workspace) + 32; size += 8) {
    const bytes given = resized(std::vector{workspace}, size);
    EXPECT_EQ(step(&config_, tensors.data(), 2, nullptr, given.data()),
              size < 24 ? STEEPEST_E_INVALID_ARGUMENT : STEEPEST_OK);
  }
}

TEST_F(muon_growth, what_is_refused) {
  const auto before = matrices_;
  const auto tensors = tensors_of(matrices_);
  std::size_t needed = 0;
  ASSERT_OK(steepest_muon_workspace_size(nullptr, &config_, tensors.data(), 2, &needed));
  std::vector<unsigned char> memory(needed);
  steepest_workspace workspace = STEEPEST_WORKSPACE_INIT;
  workspace.data = memory.data();
  workspace.bytes = needed;
  const steepest_step_stats stats = STEEPEST_STEP_STATS_INIT;
  const steepest_msign_stats msign_stats = STEEPEST_MSIGN_STATS_INIT;
  const float x[] = {1, 2, 3, 4};
  float out[4] = {-7, -7, -7, -7};
  const auto sign = [&](const void* config, void* sign_stats) {
    return steepest_msign(nullptr, static_cast<const steepest_msign_config*>(config), 2, 2,
                          STEEPEST_F32, x, 0, out, 0, nullptr,
                          static_cast<steepest_msign_stats*>(sign_stats));
  };
  check_refusals({
      {"config", to_bytes(config_), 0,
       [&](const bytes& b) { return step(b.data(), tensors.data(), 2); }},
      {"tensors[1].config", to_bytes(config_), 0,
       [&](const bytes& b) {
         auto own = tensors;
         own[1].config = reinterpret_cast<const steepest_muon_config*>(b.data());
         return step(&config_, own.data(), 2);
       }},
      {"config.msign", to_bytes(msign_), 0,
       [&](const bytes& b) {
         steepest_muon_config with = config_;
         with.msign = reinterpret_cast<const steepest_msign_config*>(b.data());
         return step(&with, tensors.data(), 2);
       }},
      {"tensors[1]", to_bytes(tensors[0]), 1,
       [&](const bytes& b) { return step(&config_, b.data(), 2); }},
      {"stats[1]", to_bytes(stats), 1,
       [&](const bytes& b) {
         bytes copy = b;
         const steepest_status status = step(&config_, tensors.data(), 2, copy.data());
         EXPECT_EQ(copy, b);
         return status;
       }},
      {"workspace", to_bytes(workspace), 0,
       [&](const bytes& b) { return step(&config_, tensors.data(), 2, nullptr, b.data()); }},
      {"config", to_bytes(msign_), 0, [&](const bytes& b) { return sign(b.data(), nullptr); }},
      {"stats", to_bytes(msign_stats), 0,
       [&](const bytes& b) {
         bytes copy = b;
         const steepest_status status = sign(nullptr, copy.data());
         EXPECT_EQ(copy, b);
         return status;
       }},
  });
  EXPECT_TRUE(same(matrices_, before));
  for (const float value : out) EXPECT_EQ(value, -7);
}

// ------------------------------------------------------------------ schedules

TEST(schedule_growth, schedules_of_any_size) {
  const steepest_schedule init = STEEPEST_SCHEDULE_INIT;
  steepest_schedule given = init;
  given.kind = STEEPEST_SCHEDULE_WARMUP_STABLE_DECAY;
  given.decay_shape = STEEPEST_DECAY_COSINE;
  given.lr = 3;
  given.final_ratio = 0.25;
  given.warmup_steps = 5;
  given.decay_steps = 9;
  for (std::size_t size = 16; size <= sizeof(init) + 32; size += 8) {
    SCOPED_TRACE(size);
    const steepest_schedule whole = completed(given, size, init);
    const bytes part = resized(std::vector{given}, size);
    const auto* schedule = reinterpret_cast<const steepest_schedule*>(part.data());
    std::vector<double> a(20, -7), b(20, -7);
    ASSERT_OK(steepest_schedule_fill(&whole, 20, a.data()));
    ASSERT_OK(steepest_schedule_fill(schedule, 20, b.data()));
    EXPECT_EQ(a, b);
    double rate = -7;
    ASSERT_OK(steepest_schedule_at(schedule, 20, 13, &rate));
    EXPECT_EQ(rate, a[12]);
  }
}

TEST(schedule_growth, what_is_refused) {
  const steepest_schedule schedule = STEEPEST_SCHEDULE_INIT;
  std::vector<double> lr(20, -7);
  check_refusals({
      {"schedule", to_bytes(schedule), 0,
       [&](const bytes& b) {
         return steepest_schedule_fill(reinterpret_cast<const steepest_schedule*>(b.data()), 20,
                                       lr.data());
       }},
      {"schedule", to_bytes(schedule), 0,
       [&](const bytes& b) {
         return steepest_schedule_at(reinterpret_cast<const steepest_schedule*>(b.data()), 20, 1,
                                     lr.data());
       }},
  });
  EXPECT_EQ(lr, std::vector<double>(20, -7));
}

}  // namespace
}  // namespace steepest_test
