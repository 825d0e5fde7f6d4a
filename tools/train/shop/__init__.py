# SPDX-License-Identifier: Apache-2.0
"""Seeded generator of the shop's catalogue, prompts and reference answers (standard library only)."""
