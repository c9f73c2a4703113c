# SPDX-License-Identifier: Apache-2.0
bits(x::BF16) = reinterpret(UInt16, x)

@test bits(BF16(1.0f0)) == 0x3f80
@test Float32(BF16(-2.5f0)) == -2.5f0
# Ties to even: 1 + 2^-8 lies between 1 and 1 + 2^-7.
@test Float32(BF16(1.0f0 + 2.0f0^-8)) == 1.0f0
@test Float32(BF16(1.0f0 + 3 * 2.0f0^-8)) == 1.0f0 + 2.0f0^-6
@test Float32(BF16(1.0f0 + 2.0f0^-8 + 2.0f0^-20)) == 1.0f0 + 2.0f0^-7
# From Float64 rounded once: Float32 alone would make a tie of it.
@test Float32(BF16(1.0 + 2.0^-8 + 2.0^-40)) == 1.0f0 + 2.0f0^-7
@test Float32(BF16(-1.0 - 2.0^-8 - 2.0^-40)) == -1.0f0 - 2.0f0^-7
@test Float32(BF16(1.0 + 2.0^-8 - 2.0^-40)) == 1.0f0
@test isnan(BF16(NaN32)) && bits(BF16(Inf32)) == 0x7f80 && bits(BF16(floatmax(Float32))) == 0x7f80
@test bits(BF16(1.0f-40)) == 0x0001
@test BF16(3) + 1 === 4.0f0
@test BF16[1, 2] == [1.0f0, 2.0f0]
# Every value comes back from both directions.
for i in 0x0000:0xffff
    x = reinterpret(BF16, i)
    isnan(x) && continue
    (BF16(Float32(x)) == x && BF16(Float64(x)) == x) || @test x == "does not come back"
end
@test_throws ArgumentError Steepest.dtype(Int32)
