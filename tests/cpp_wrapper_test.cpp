// SPDX-License-Identifier: Apache-2.0
// steepest.hpp: the bits of C calls, errors in both forms, lifetimes.
#include <gtest/gtest.h>
#include <steepest/steepest.hpp>

#include <array>
#include <cmath>
#include <thread>

namespace {

TEST(cpp_wrapper, adamw_is_the_c_call) {
  steepest::context_options options;
  options.num_threads = 2;
  const steepest::context context(options);
  EXPECT_EQ(context.threads(), 2);
  EXPECT_GT(context.isa(), 0);
  std::vector<float> w = {1, -2, 3}, m(3), v(3);
  const std::array<float, 3> g = {0.1f, 0.2f, -0.3f};
  auto w2 = w, m2 = m, v2 = v;
  steepest::adamw_config config;
  config.lr = 0.1;
  std::array<steepest::step_stats, 1> stats;
  const std::array tensors = {steepest::adamw_tensor(w, g, m, v)};
  EXPECT_EQ(steepest::adamw_step(context, config, tensors, stats), steepest::outcome::stepped);
  EXPECT_NEAR(stats[0].update_rms, 1, 1e-5);

  steepest_adamw_tensor plain = STEEPEST_ADAMW_TENSOR_INIT;
  plain.count = 3;
  plain.param = w2.data();
  plain.grad = g.data();
  plain.exp_avg = m2.data();
  plain.exp_avg_sq = v2.data();
  ASSERT_EQ(steepest_adamw_step(context.get(), &config, &plain, 1, nullptr), STEEPEST_OK);
  EXPECT_EQ(w, w2);
  EXPECT_EQ(m, m2);
  EXPECT_EQ(v, v2);
}

TEST(cpp_wrapper, element_types) {
  std::vector<steepest::bf16> w(2, {0x3f80}), g(2, {0x3f00});
  std::vector<float> m(2), v(2);
  steepest::adamw_config config;
  config.lr = 0.5;
  steepest::adamw_step(steepest::context::process_wide(), config,
                       steepest::adamw_tensor(w, std::as_const(g), m, v));
  EXPECT_EQ(w[0].bits, 0x3efd);  // 1 - .5 (1 + .01) = .495, rounded to .494140625
  EXPECT_EQ(steepest::dtype_of<steepest::f16>, STEEPEST_F16);
  static_assert(!steepest::element<int>);
}

TEST(cpp_wrapper, errors_in_both_forms) {
  const steepest::context& context = steepest::context::process_wide();
  std::vector<float> w(2), g(2), m(2), v(2);
  steepest::adamw_config config;
  config.beta1 = 2;
  const std::array tensors = {steepest::adamw_tensor(w, g, m, v)};
  try {
    steepest::adamw_step(context, config, tensors);
    FAIL();
  } catch (const steepest::error& error) {
    EXPECT_EQ(error.status(), STEEPEST_E_INVALID_ARGUMENT);
    EXPECT_NE(std::string(error.what()).find("beta1"), std::string::npos);
  }
  const auto result = steepest::nothrow::adamw_step(context, config, tensors);
  EXPECT_FALSE(result);
  EXPECT_EQ(result.status(), STEEPEST_E_INVALID_ARGUMENT);
  EXPECT_NE(std::string(result.error().what()).find("beta1"), std::string::npos);
  EXPECT_THROW(result.value(), steepest::error);

  std::vector<float> longer(3);
  EXPECT_THROW(steepest::adamw_tensor(w, longer, m, v), steepest::error);
  std::vector<steepest::step_stats> stats(2);
  config.beta1 = 0.9;
  EXPECT_EQ(steepest::nothrow::adamw_step(context, config, tensors, stats).status(),
            STEEPEST_E_SHAPE);
  steepest::context_options options;
  options.num_threads = -1;
  EXPECT_THROW(steepest::context{options}, steepest::error);
  EXPECT_FALSE(steepest::context::create(options));
  using view = steepest::matrix_view<float>;
  EXPECT_THROW(view(w, 2, 2), steepest::error);
  EXPECT_THROW(view(w, 1, 2, 1), steepest::error);
  EXPECT_THROW(view(w, INT64_MAX, 1, 1), steepest::error);
  EXPECT_NO_THROW(view(w, 2, 1));
  EXPECT_NO_THROW(view(longer, 2, 1, 2));
}

TEST(cpp_wrapper, msign_and_muon) {
  const steepest::context context;
  const std::vector<double> x = {3, 0, -1, 0, -2, -1};  // two rows of 2, 3 apart
  std::vector<double> out(4);
  steepest::msign_config config;
  config.method = STEEPEST_MSIGN_SVD;
  steepest::msign_stats stats;
  steepest::msign(context, config, {x, 2, 2, 3}, steepest::matrix_view<double>(out, 2, 2), &stats);
  EXPECT_NEAR(out[0], 1, 1e-14);
  EXPECT_NEAR(out[3], -1, 1e-14);
  EXPECT_EQ(stats.rank, 2);

  std::vector<float> w(4), m(4);
  const std::vector<float> g = {1, 0, 0, 1};
  steepest::muon_config muon;
  muon.lr = 1;
  muon.msign = &config;
  using view = steepest::matrix_view<float>;
  const steepest::muon_tensor tensor(view(w, 2, 2), steepest::matrix_view<const float>(g, 2, 2),
                                     view(m, 2, 2));
  EXPECT_EQ(steepest::muon_step(context, muon, tensor), steepest::outcome::stepped);
  EXPECT_NEAR(w[0], -0.2 * std::sqrt(2.0), 1e-6);
  EXPECT_NEAR(steepest::scale_factor(STEEPEST_SCALE_SQRT_OUT_IN, 0, 9, 4), 1.5, 1e-15);
  EXPECT_THROW(steepest::scale_factor(17, 0, 9, 4), steepest::error);
}

TEST(cpp_wrapper, batches_scratch_memory_and_coefficients) {
  const steepest::context context;
  using view = steepest::matrix_view<float>;
  using input = steepest::matrix_view<const float>;
  const std::vector<float> good = {2, 0, 0, 5}, bad = {NAN, 0, 0, 1};
  std::vector<float> first(4), second(4, 7);
  const std::array in = {input(good, 2, 2), input(bad, 2, 2)};
  const std::array out = {view(first, 2, 2), view(second, 2, 2)};
  std::array<steepest::msign_stats, 2> stats;
  steepest::msign_config config;
  config.method = STEEPEST_MSIGN_SVD;
  const auto result = steepest::nothrow::msign_batched<float>(context, config, in, out, stats);
  EXPECT_EQ(result.status(), STEEPEST_E_NONFINITE);
  EXPECT_EQ(stats[0].status, STEEPEST_OK);
  EXPECT_EQ(stats[1].status, STEEPEST_E_NONFINITE);
  EXPECT_NEAR(first[0], 1, 1e-6);
  EXPECT_EQ(second[0], 7);
  const std::array shorter = {view(first, 1, 2), view(second, 2, 2)};
  EXPECT_THROW(steepest::msign_batched<float>(context, config, in, shorter), steepest::error);
  EXPECT_NO_THROW(steepest::msign_batched<float>(context, config, {}, {}));

  // Too little scratch memory is an error, enough is not.
  std::vector<std::byte> memory(steepest::msign_workspace_size<float>(context, config, 2, 2));
  const steepest::workspace enough(memory), little(std::span<std::byte>(memory).first(8));
  EXPECT_NO_THROW(steepest::msign(context, config, in[0], out[0], nullptr, &enough));
  EXPECT_THROW(steepest::msign(context, config, in[0], out[0], nullptr, &little), steepest::error);

  const auto rows = steepest::msign_coefficients(1e-3, 6);
  ASSERT_EQ(rows.size(), 6u);
  steepest::msign_config custom;
  custom.method = STEEPEST_MSIGN_NEWTON_SCHULZ;
  custom.steps = 6;
  custom.set_custom_coefficients(rows);
  const steepest::singular_band band = steepest::msign_band(custom, 1e-3);
  EXPECT_GT(band.low, 0.9);
  EXPECT_LT(band.high, 1.1);
  EXPECT_EQ(steepest::nothrow::msign_coefficients(1e-3, 101).status(), STEEPEST_E_INVALID_ARGUMENT);
}

TEST(cpp_wrapper, callbacks_and_the_library) {
  // Serial, and counted.
  static int runs, allocations;
  steepest::executor executor;
  executor.concurrency = [](void*) -> std::int32_t { return 3; };
  executor.parallel_for = [](void*, std::int64_t tasks,
                             void (*body)(void*, std::int64_t, std::int32_t),
                             void* arg) -> steepest_status {
    ++runs;
    for (std::int64_t i = 0; i < tasks; ++i) body(arg, i, 0);
    return STEEPEST_OK;
  };
  steepest::allocator allocator;
  allocator.allocate = [](void*, std::size_t alignment, std::size_t bytes) -> void* {
    ++allocations;
    return std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  };
  allocator.release = [](void*, void* pointer, std::size_t) { std::free(pointer); };
  steepest::context_options options;
  options.executor = &executor;
  options.allocator = &allocator;
  const steepest::context context(options);
  EXPECT_EQ(context.threads(), 3);
  std::vector<float> w(1 << 20), g(1 << 20), m(1 << 20), v(1 << 20);
  steepest::adamw_step(context, steepest::adamw_config(), steepest::adamw_tensor(w, g, m, v));
  EXPECT_GT(runs, 0);
  EXPECT_GT(allocations, 0);

  EXPECT_EQ(steepest::version() >> 16, static_cast<unsigned>(STEEPEST_VERSION_MAJOR));
  EXPECT_EQ(steepest::abi_version(), static_cast<unsigned>(STEEPEST_ABI_VERSION));
  EXPECT_STREQ(steepest::status_name(STEEPEST_E_SHAPE), "STEEPEST_E_SHAPE");
  EXPECT_STREQ(steepest::isa_name(STEEPEST_ISA_GENERIC), "generic");
  EXPECT_NE(std::string(steepest::build_info()), "");
}

// Every field of narrow storage once.
TEST(cpp_wrapper, narrow_storage_is_the_c_call) {
  const steepest::context& context = steepest::context::process_wide();
  constexpr std::int64_t count = 300;
  struct arrays {
    std::vector<steepest::bf16> param = std::vector<steepest::bf16>(300, {0x3f80});
    std::vector<float> copy = std::vector<float>(300);
    std::vector<std::int8_t> residual = std::vector<std::int8_t>(300, 3);
    std::vector<std::uint8_t> m = std::vector<std::uint8_t>(300), v = m;
    std::vector<float> m_scales = std::vector<float>(2);
    std::vector<std::uint16_t> v_scales = std::vector<std::uint16_t>(10);
  } a, b;
  EXPECT_EQ(steepest::q8_state::scales(STEEPEST_Q8_DYNAMIC, count), 2);
  EXPECT_EQ(steepest::q8_state::scales(STEEPEST_Q8_COMPANDED, count), 10);
  std::vector<float> g(300);
  for (std::size_t i = 0; i < g.size(); ++i) g[i] = 0.01f * static_cast<float>(i) - 1;

  steepest::adamw_config adamw;
  adamw.flags = STEEPEST_ADAMW_STOCHASTIC_ROUNDING;
  adamw.seed = 9;
  steepest::adamw_tensor tensor(a.param, g);
  tensor.exp_avg_in(steepest::q8_state(a.m, a.m_scales))
      .exp_avg_sq_in(steepest::q8_state(a.v, a.v_scales))
      .with_residual(STEEPEST_RESIDUAL_NEAREST8, a.residual)
      .with_param_copy(a.copy)
      .with_random_stream(4, 100);
  steepest::adamw_step(context, adamw, tensor);
  steepest_adamw_tensor plain = STEEPEST_ADAMW_TENSOR_INIT;
  plain.count = count;
  plain.param = b.param.data();
  plain.param_dtype = STEEPEST_BF16;
  plain.grad = g.data();
  plain.exp_avg = b.m.data();
  plain.exp_avg_dtype = STEEPEST_Q8_DYNAMIC;
  plain.exp_avg_scales = b.m_scales.data();
  plain.exp_avg_sq = b.v.data();
  plain.exp_avg_sq_dtype = STEEPEST_Q8_COMPANDED;
  plain.exp_avg_sq_scales = b.v_scales.data();
  plain.residual = b.residual.data();
  plain.residual_kind = STEEPEST_RESIDUAL_NEAREST8;
  plain.param_copy = b.copy.data();
  plain.param_copy_dtype = STEEPEST_F32;
  plain.random_stream = 4;
  plain.first_index = 100;
  ASSERT_EQ(steepest_adamw_step(nullptr, &adamw, &plain, 1, nullptr), STEEPEST_OK);
  const auto same = [&] {
    const auto bits = [](const arrays& x) {
      std::vector<std::uint16_t> out;
      for (const auto& p : x.param) out.push_back(p.bits);
      return out;
    };
    return bits(a) == bits(b) && a.copy == b.copy && a.residual == b.residual && a.m == b.m &&
           a.v == b.v && a.m_scales == b.m_scales && a.v_scales == b.v_scales;
  };
  EXPECT_TRUE(same());
  EXPECT_NE(a.m[0], 0);

  steepest::muon_config muon;
  muon.flags |= STEEPEST_MUON_STOCHASTIC_ROUNDING;
  steepest::muon_tensor matrix(steepest::matrix_view<steepest::bf16>(a.param, 15, 20),
                               steepest::matrix_view<const float>(g, 15, 20),
                               steepest::q8_state(a.m, a.m_scales));
  matrix.with_residual(STEEPEST_RESIDUAL_NEAREST8, a.residual)
      .with_param_copy(steepest::matrix_view<float>(a.copy, 15, 20))
      .with_random_stream(5);
  steepest::muon_step(context, muon, matrix);
  steepest_muon_tensor plain_matrix = STEEPEST_MUON_TENSOR_INIT;
  plain_matrix.rows = 15;
  plain_matrix.cols = 20;
  plain_matrix.param = b.param.data();
  plain_matrix.param_dtype = STEEPEST_BF16;
  plain_matrix.grad = g.data();
  plain_matrix.momentum = b.m.data();
  plain_matrix.momentum_dtype = STEEPEST_Q8_DYNAMIC;
  plain_matrix.momentum_scales = b.m_scales.data();
  plain_matrix.residual = b.residual.data();
  plain_matrix.residual_kind = STEEPEST_RESIDUAL_NEAREST8;
  plain_matrix.param_copy = b.copy.data();
  plain_matrix.param_copy_dtype = STEEPEST_F32;
  plain_matrix.random_stream = 5;
  ASSERT_EQ(steepest_muon_step(nullptr, &muon, &plain_matrix, 1, nullptr, nullptr), STEEPEST_OK);
  EXPECT_TRUE(same());

  EXPECT_THROW(steepest::q8_state(a.m, std::span(a.m_scales).first(1)), steepest::error);
  EXPECT_THROW(tensor.with_residual(STEEPEST_RESIDUAL_LOW16, a.residual), steepest::error);
  EXPECT_THROW(tensor.with_param_copy(std::span(a.copy).first(299)), steepest::error);
}

TEST(cpp_wrapper, codes_of_8_bits_and_back) {
  const steepest::context& context = steepest::context::process_wide();
  std::vector<std::uint8_t> codes(4);
  std::vector<float> dynamic_scales(1), back(4);
  std::vector<std::uint16_t> companded_scales(1);
  const std::vector<float> signed_values = {2, -2, 0, 0.5f}, squares = {4, 1, 0, 0.25f};
  const steepest::q8_state dynamic(codes, dynamic_scales), companded(codes, companded_scales);
  steepest::q8_encode(context, true, signed_values, dynamic);
  steepest::q8_decode(context, true, dynamic, back);
  for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(back[i], signed_values[i], 0.05);
  EXPECT_EQ(dynamic_scales[0], 2);
  steepest::q8_encode(context, false, squares, companded);
  steepest::q8_decode(context, false, companded, back);
  for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(back[i], squares[i], 0.05);

  const std::span<float> shorter = std::span(back).first(3);
  EXPECT_EQ(steepest::nothrow::q8_decode(context, true, dynamic, shorter).status(),
            STEEPEST_E_SHAPE);
  EXPECT_THROW(steepest::q8_encode(context, true, shorter, dynamic), steepest::error);
}

TEST(cpp_wrapper, a_skipped_step) {
  std::vector<float> w(2), g = {1, INFINITY}, m(2), v(2);
  steepest::adamw_config config;
  config.flags = STEEPEST_ADAMW_SKIP_NONFINITE;
  EXPECT_EQ(steepest::adamw_step(steepest::context::process_wide(), config,
                                 steepest::adamw_tensor(w, g, m, v)),
            steepest::outcome::skipped);
  EXPECT_EQ(w[0], 0);
}

TEST(cpp_wrapper, diagnostics_and_schedules) {
  const steepest::context context;
  const std::vector<float> a = {3};
  const std::vector<double> b = {4};
  const std::array vectors = {steepest::as_vector(a), steepest::as_vector(b)};
  EXPECT_DOUBLE_EQ(steepest::grad_norm(context, vectors).norm, 5);
  EXPECT_DOUBLE_EQ(steepest::rms(context, vectors).norm, std::sqrt(12.5));
  const std::vector<double> x = {0, 2, -3, 0};
  const auto view = steepest::matrix_view<const double>(x, 2, 2);
  EXPECT_NEAR(steepest::singular_values(context, view)[1], 2, 1e-14);
  EXPECT_NEAR(steepest::spectral_norm(context, view), 3, 1e-14);
  const steepest::norm_bounds bounds = steepest::spectral_norm_bounds(context, view, 1e-3);
  EXPECT_LE(bounds.lower, 3);
  EXPECT_GE(bounds.upper, 3);
  EXPECT_LE(bounds.upper, 1.001 * bounds.lower);
  EXPECT_NEAR(steepest::adam_update_rms_second_order(0.9, 0.95, 0, 3), 0.2258, 5e-5);
  EXPECT_FALSE(steepest::nothrow::adam_update_rms_second_order(0.9, 0.95, 0, 0.5).has_value());
  EXPECT_NEAR(steepest::singular_entropy(std::vector<double>{1, 1}), 1, 1e-14);
  const double rms = steepest::adam_update_rms(0.9, 0.25);
  EXPECT_NEAR(steepest::snr_from_update_rms(rms, 0.9, 0), 0.25, 1e-13);
  EXPECT_TRUE(std::isnan(steepest::snr_from_momentum(0.1, 0.3, 0.9, 1)));

  steepest::schedule schedule(STEEPEST_SCHEDULE_COSINE);
  schedule.lr = 0.5;
  std::vector<double> lr(10);
  steepest::schedule_fill(schedule, lr);
  EXPECT_EQ(steepest::schedule_at(schedule, 10, 4), lr[3]);
  const auto best = steepest::schedule_optimal(10, 1, 1.0);
  EXPECT_NEAR(best.bound, 0.57801, 1e-5);
  EXPECT_NEAR(steepest::schedule_bound(best.lr, 1, 1.0), best.bound, 1e-14);
  EXPECT_THROW(steepest::schedule_bound(best.lr, 1, std::vector<double>(3, 1.0)), steepest::error);
  EXPECT_EQ(steepest::schedule_refine(std::vector<double>(5, 2.0), STEEPEST_REFINE_ADAM)[1], 0.75);
  EXPECT_THROW(steepest::schedule_optimal(0, 1, 1.0), steepest::error);
}

TEST(cpp_wrapper, contexts_move_and_are_shared) {
  steepest::context first;
  steepest_context* const handle = first.get();
  const steepest::context second = std::move(first);
  EXPECT_EQ(second.get(), handle);
  second.trim();
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      std::vector<float> w(100, 1), g(100, 1), m(100), v(100);
      steepest::adamw_step(second, steepest::adamw_config(), steepest::adamw_tensor(w, g, m, v));
      EXPECT_NEAR(w[99], 0.999 - 1e-5, 1e-6);
    });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
