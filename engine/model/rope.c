// SPDX-License-Identifier: Apache-2.0
#include "engine/model/rope.h"

#include <math.h>

#define PI 0x1.921fb54442d18p+1

/* Wavelengths beyond the trained context are stretched by `factor`, short ones kept, the band between
 * blended. */
static double llama3_frequency(double frequency, const struct hparams *hparams)
{
    double wavelength = 2.0 * PI / frequency;
    double turns = hparams->rope_original_context / wavelength;
    if (turns > hparams->rope_high_freq_factor)
        return frequency;
    if (turns < hparams->rope_low_freq_factor)
        return frequency / hparams->rope_factor;
    double smooth = (turns - hparams->rope_low_freq_factor) /
                    (hparams->rope_high_freq_factor - hparams->rope_low_freq_factor);
    return (1.0 - smooth) * frequency / hparams->rope_factor + smooth * frequency;
}

/* The (fractional) pair of dimensions that makes `turns` turns over the trained context. */
static double yarn_dimension(double turns, const struct hparams *hparams)
{
    return (double)hparams->head_dim * log(hparams->rope_original_context / (turns * 2.0 * PI)) /
           (2.0 * log(hparams->rope_theta));
}

static double yarn_frequency(double frequency, int32_t pair, const struct hparams *hparams)
{
    double low = yarn_dimension(hparams->rope_beta_fast, hparams);
    double high = yarn_dimension(hparams->rope_beta_slow, hparams);
    if (hparams->rope_truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0.0);
    high = fmin(high, (double)hparams->head_dim - 1.0);
    if (low == high)
        high += 0.001;
    double stretched = fmin(fmax(((double)pair - low) / (high - low), 0.0), 1.0);
    return frequency / hparams->rope_factor * stretched + frequency * (1.0 - stretched);
}

void rope_frequencies(float *inverse_frequencies, const struct hparams *hparams)
{
    for (int32_t pair = 0; pair < hparams->head_dim / 2; pair++) {
        double frequency = pow(hparams->rope_theta, -2.0 * (double)pair / (double)hparams->head_dim);
        if (hparams->rope_scaling == ROPE_SCALING_LINEAR)
            frequency /= hparams->rope_factor;
        else if (hparams->rope_scaling == ROPE_SCALING_LLAMA3)
            frequency = llama3_frequency(frequency, hparams);
        else if (hparams->rope_scaling == ROPE_SCALING_YARN)
            frequency = yarn_frequency(frequency, pair, hparams);
        inverse_frequencies[pair] = (float)frequency;
    }
}

/* Taylor series on [-pi/4, pi/4]; the terms left out are below 1e-13. */
static double sine_series(double x)
{
    double square = x * x, sum = -1.0 / 39916800.0;
    sum = sum * square + 1.0 / 362880.0;
    sum = sum * square - 1.0 / 5040.0;
    sum = sum * square + 1.0 / 120.0;
    sum = sum * square - 1.0 / 6.0;
    return x + x * square * sum;
}

static double cosine_series(double x)
{
    double square = x * x, sum = 1.0 / 479001600.0;
    sum = sum * square - 1.0 / 3628800.0;
    sum = sum * square + 1.0 / 40320.0;
    sum = sum * square - 1.0 / 720.0;
    sum = sum * square + 1.0 / 24.0;
    sum = sum * square - 0.5;
    return 1.0 + square * sum;
}

/* angle >= 0. Reduced by the nearest multiple of pi/2, which is taken away in two parts so that the first
 * product is exact for angles up to 2^24. */
static void sine_cosine(double angle, double *sine, double *cosine)
{
    const double half_pi_high = 0x1.921fb5p+0, half_pi_low = 0x1.110b4611a6263p-26;
    int64_t quarter = (int64_t)(angle * (2.0 / PI) + 0.5);
    double x = (angle - (double)quarter * half_pi_high) - (double)quarter * half_pi_low;
    double s = sine_series(x), c = cosine_series(x);
    bool swapped = quarter & 1;
    double sign_s = quarter & 2 ? -1.0 : 1.0;
    double sign_c = (quarter + 1) & 2 ? -1.0 : 1.0;
    *sine = sign_s * (swapped ? c : s);
    *cosine = sign_c * (swapped ? s : c);
}

void rope_position(float *cos, float *sin, const float *inverse_frequencies, int32_t half, int32_t position,
                   float attention_factor)
{
    for (int32_t i = 0; i < half; i++) {
        float angle = (float)position * inverse_frequencies[i]; /* in f32, as the models were trained */
        double sine, cosine;
        sine_cosine((double)angle, &sine, &cosine);
        cos[i] = (float)cosine * attention_factor;
        sin[i] = (float)sine * attention_factor;
    }
}
