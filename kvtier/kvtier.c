// SPDX-License-Identifier: Apache-2.0
// Placeholder translation unit until the tier lands.
typedef int kvtier_empty;
