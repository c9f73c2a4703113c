# SPDX-License-Identifier: Apache-2.0
"""Optimizer-step kernels for CPUs: AdamW, Muon and the matrix sign on arrays in place."""
