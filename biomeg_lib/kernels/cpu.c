/* Fused kernels for the CPU in fp32: what PyTorch would do in many passes over memory, in one.
 *
 * Plain C with gcc's vector extension, compiled for this processor on first use (see cpu.py). Threads are those of
 * PyTorch's own OpenMP runtime, which this is linked with. Sums over rows are made per chunk, and the chunks summed in
 * order, so that results do not depend on the number of threads. Random bits are a function of (seed, row, column), so
 * that a dropout mask is computed twice and never stored.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#define VL 16
#elif defined(__AVX__)
#define VL 8
#else
#define VL 4
#endif

typedef float vec __attribute__((vector_size(4 * VL), aligned(4), may_alias));
typedef int64_t i64;

#define CHUNKS 64 /* of rows, for sums over rows */
#define INLINE static inline __attribute__((always_inline))

/* --- elementary functions ------------------------------------------------------------------------------------------ */

/* exp(x), relative error below 2e-7 (measured in the tests); underflows to 0 below -87, saturates above 88. */
INLINE float exponential(float x)
{
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float n = __builtin_rintf(x * 1.44269504f);
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float y = 1.98412698e-4f;
    y = y * r + 1.38888889e-3f;
    y = y * r + 8.33333333e-3f;
    y = y * r + 4.16666667e-2f;
    y = y * r + 1.66666667e-1f;
    y = y * r + 0.5f;
    y = y * r * r + r + 1.0f;
    union { int32_t i; float f; } two = {.i = ((int32_t)n + 127) << 23};
    return y * two.f;
}

/* GeLU by tanh, x * sigmoid(z): Hendrycks and Gimpel 2016. */
INLINE float gelu_tanh(float x)
{
    float z = 1.5957691216f * x * (1.0f + 0.044715f * x * x);
    return x / (1.0f + exponential(-z));
}

INLINE float gelu_tanh_slope(float x)
{
    float z = 1.5957691216f * x * (1.0f + 0.044715f * x * x);
    float s = 1.0f / (1.0f + exponential(-z));
    return s + x * s * (1.0f - s) * 1.5957691216f * (1.0f + 0.134145f * x * x);
}

/* Normal distribution function by Abramowitz and Stegun 7.1.26: absolute error 1.5e-7 in erf. */
INLINE float normal_cdf(float x)
{
    float a = __builtin_fabsf(x) * 0.70710678f;
    float t = 1.0f / (1.0f + 0.3275911f * a);
    float poly = t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
    float tail = 0.5f * poly * exponential(-a * a);
    return x < 0.0f ? tail : 1.0f - tail;
}

INLINE float gelu_erf(float x) { return x * normal_cdf(x); }

INLINE float gelu_erf_slope(float x)
{
    return normal_cdf(x) + x * 0.39894228f * exponential(-0.5f * x * x);
}

/* --- random bits --------------------------------------------------------------------------------------------------- */

INLINE uint32_t row_key(uint64_t seed, uint64_t row)
{
    uint64_t z = seed + (row + 1) * 0x9E3779B97F4A7C15u; /* splitmix64 */
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (uint32_t)((z ^ (z >> 31)) >> 16);
}

/* 1 with probability 1 - limit / 2**32 */
INLINE float kept(uint32_t key, uint32_t column, uint32_t limit)
{
    uint32_t x = key + column * 0x9E3779B9u;
    x = (x ^ (x >> 16)) * 0x7FEB352Du;
    x = (x ^ (x >> 15)) * 0x846CA68Bu;
    x = x ^ (x >> 16);
    return x >= limit ? 1.0f : 0.0f;
}

INLINE uint32_t limit_of(double p) { return (uint32_t)(p * 4294967296.0); }

/* --- sums over rows ------------------------------------------------------------------------------------------------ */

static void sum_chunks(const float *partial, i64 stride, i64 width, float *out, int threads)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (i64 block = 0; block < (width + 255) / 256; block++) {
        i64 low = block * 256, high = low + 256 < width ? low + 256 : width;
        for (i64 j = low; j < high; j++) out[j] = 0.0f;
        for (i64 c = 0; c < CHUNKS; c++)
            for (i64 j = low; j < high; j++) out[j] += partial[c * stride + j];
    }
}

/* out[width] = sum over rows of x[rows, width]; partial[CHUNKS * width] is scratch. */
void column_sum(const float *x, i64 rows, i64 width, float *out, float *partial, int threads)
{
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (i64 c = 0; c < CHUNKS; c++) {
        float *own = partial + c * width;
        memset(own, 0, sizeof(float) * width);
        for (i64 i = rows * c / CHUNKS; i < rows * (c + 1) / CHUNKS; i++) {
            const float *row = x + i * width;
#pragma omp simd
            for (i64 j = 0; j < width; j++) own[j] += row[j];
        }
    }
    sum_chunks(partial, width, width, out, threads);
}

/* --- bias and GeLU ------------------------------------------------------------------------------------------------- */

#define GELU_FORWARD(F)                                                                                                \
    for (i64 j = 0; j < width; j++) to[j] = F(from[j] + bias[j]);
#define GELU_BACKWARD(F)                                                                                               \
    for (i64 j = 0; j < width; j++) {                                                                                  \
        float g = up[j] * F(from[j] + bias[j]);                                                                        \
        to[j] = g;                                                                                                     \
        own[j] += g;                                                                                                   \
    }

/* y = gelu(x + bias), x[rows, width] */
void bias_gelu_forward(const float *x, const float *restrict bias, float *y, i64 rows, i64 width, int tanh_kind,
                       int threads)
{
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (i64 c = 0; c < CHUNKS; c++)
        for (i64 i = rows * c / CHUNKS; i < rows * (c + 1) / CHUNKS; i++) {
            const float *restrict from = x + i * width;
            float *restrict to = y + i * width;
            if (tanh_kind) {
#pragma omp simd
                GELU_FORWARD(gelu_tanh)
            } else {
#pragma omp simd
                GELU_FORWARD(gelu_erf)
            }
        }
}

/* dx and dbias, from the x and bias of forward and dy; partial[CHUNKS * width] is scratch */
void bias_gelu_backward(const float *x, const float *restrict bias, const float *dy, float *dx, float *dbias,
                        float *partial, i64 rows, i64 width, int tanh_kind, int threads)
{
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (i64 c = 0; c < CHUNKS; c++) {
        float *restrict own = partial + c * width;
        memset(own, 0, sizeof(float) * width);
        for (i64 i = rows * c / CHUNKS; i < rows * (c + 1) / CHUNKS; i++) {
            const float *restrict from = x + i * width;
            const float *restrict up = dy + i * width;
            float *restrict to = dx + i * width;
            if (tanh_kind) {
#pragma omp simd
                GELU_BACKWARD(gelu_tanh_slope)
            } else {
#pragma omp simd
                GELU_BACKWARD(gelu_erf_slope)
            }
        }
    }
    sum_chunks(partial, width, width, dbias, threads);
}

/* y = x with elements kept with probability 1 - p, times 1 / (1 - p): its own derivative */
void dropout(const float *x, float *y, i64 rows, i64 width, double p, uint64_t seed, int threads)
{
    const uint32_t limit = limit_of(p);
    const float scale = (float)(1.0 / (1.0 - p));
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (i64 c = 0; c < CHUNKS; c++)
        for (i64 i = rows * c / CHUNKS; i < rows * (c + 1) / CHUNKS; i++) {
            const float *restrict from = x + i * width;
            float *restrict to = y + i * width;
            const uint32_t key = row_key(seed, i);
#pragma omp simd
            for (i64 j = 0; j < width; j++) to[j] = from[j] * (kept(key, j, limit) * scale);
        }
}

/* --- bias, dropout, residual, LayerNorm ---------------------------------------------------------------------------- */

/* total = residual + dropout(x + bias); normed = LayerNorm(total) * weight + shift, unless weight is NULL.
 * x may be NULL (then total is not written: a LayerNorm of residual alone). mean[rows] and rstd[rows] are for backward. */
void residual_norm_forward(const float *x, const float *restrict bias, const float *residual,
                           const float *restrict weight, const float *restrict shift, float *total, float *normed,
                           float *mean, float *rstd, i64 rows, i64 width, double p, uint64_t seed, float eps,
                           int threads)
{
    const uint32_t limit = limit_of(p);
    const float scale = (float)(1.0 / (1.0 - p));
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (i64 c = 0; c < CHUNKS; c++)
        for (i64 i = rows * c / CHUNKS; i < rows * (c + 1) / CHUNKS; i++) {
            const float *restrict base = residual + i * width;
            const float *restrict row = base;
            float sum = 0.0f, square = 0.0f;
            if (x) {
                const float *restrict from = x + i * width;
                float *restrict to = total + i * width;
                row = to;
                if (p > 0.0) {
                    const uint32_t key = row_key(seed, i);
#pragma omp simd
                    for (i64 j = 0; j < width; j++)
                        to[j] = base[j] + (from[j] + bias[j]) * (kept(key, j, limit) * scale);
                } else {
#pragma omp simd
                    for (i64 j = 0; j < width; j++) to[j] = base[j] + (from[j] + bias[j]);
                }
            }
            if (!weight) continue;
#pragma omp simd reduction(+ : sum)
            for (i64 j = 0; j < width; j++) sum += row[j];
            const float m = sum / width;
#pragma omp simd reduction(+ : square)
            for (i64 j = 0; j < width; j++) square += (row[j] - m) * (row[j] - m);
            const float r = 1.0f / sqrtf(square / width + eps);
            float *restrict out = normed + i * width;
#pragma omp simd
            for (i64 j = 0; j < width; j++) out[j] = (row[j] - m) * r * weight[j] + shift[j];
            mean[i] = m;
            rstd[i] = r;
        }
}

/* From dtotal (NULL: zero) and dnormed (NULL: zero): dresidual; dx (NULL if it equals dresidual, without dropout, or is
 * not wanted); sums[3 * width] = dbias, dweight, dshift. partial[CHUNKS * 3 * width] is scratch. */
void residual_norm_backward(const float *total, const float *restrict weight, const float *mean, const float *rstd,
                            const float *dtotal, const float *dnormed, float *dresidual, float *dx, float *sums,
                            float *partial, i64 rows, i64 width, double p, uint64_t seed, int threads)
{
    const uint32_t limit = limit_of(p);
    const float scale = (float)(1.0 / (1.0 - p));
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (i64 c = 0; c < CHUNKS; c++) {
        float *restrict dbias = partial + c * 3 * width, *restrict dweight = dbias + width,
                        *restrict dshift = dweight + width;
        memset(dbias, 0, sizeof(float) * 3 * width);
        for (i64 i = rows * c / CHUNKS; i < rows * (c + 1) / CHUNKS; i++) {
            float *restrict out = dresidual + i * width;
            const float *restrict outer = dtotal ? dtotal + i * width : NULL;
            if (dnormed) {
                const float *restrict up = dnormed + i * width, *restrict row = total + i * width;
                const float m = mean[i], r = rstd[i];
                float first = 0.0f, second = 0.0f;
#pragma omp simd reduction(+ : first, second)
                for (i64 j = 0; j < width; j++) {
                    float unit = (row[j] - m) * r, g = up[j] * weight[j];
                    dweight[j] += up[j] * unit;
                    dshift[j] += up[j];
                    first += g;
                    second += g * unit;
                }
                first /= width;
                second /= width;
                if (outer) {
#pragma omp simd
                    for (i64 j = 0; j < width; j++)
                        out[j] = outer[j] + r * (up[j] * weight[j] - first - (row[j] - m) * r * second);
                } else {
#pragma omp simd
                    for (i64 j = 0; j < width; j++)
                        out[j] = r * (up[j] * weight[j] - first - (row[j] - m) * r * second);
                }
            } else {
                memcpy(out, outer, sizeof(float) * width);
            }
            if (dx) {
                float *restrict to = dx + i * width;
                const uint32_t key = row_key(seed, i);
#pragma omp simd
                for (i64 j = 0; j < width; j++) {
                    float g = out[j] * (kept(key, j, limit) * scale);
                    to[j] = g;
                    dbias[j] += g;
                }
            } else {
#pragma omp simd
                for (i64 j = 0; j < width; j++) dbias[j] += out[j];
            }
        }
    }
    sum_chunks(partial, 3 * width, 3 * width, sums, threads);
}

/* --- cross-entropy ------------------------------------------------------------------------------------------------- */

/* losses[rows] of logits[rows, width] + bias and labels; with `gradient`, logits become scale * (softmax - one-hot). */
void cross_entropy(float *logits, const float *restrict bias, const i64 *labels, float *losses, i64 rows, i64 width,
                   float scale, int gradient, int threads)
{
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (i64 i = 0; i < rows; i++) {
        float *restrict row = logits + i * width;
        float largest = -INFINITY, sum = 0.0f;
#pragma omp simd reduction(max : largest)
        for (i64 j = 0; j < width; j++) {
            row[j] += bias[j];
            largest = row[j] > largest ? row[j] : largest;
        }
        const float target = row[labels[i]];
        if (gradient) {
#pragma omp simd reduction(+ : sum)
            for (i64 j = 0; j < width; j++) {
                row[j] = exponential(row[j] - largest);
                sum += row[j];
            }
            const float share = scale / sum;
#pragma omp simd
            for (i64 j = 0; j < width; j++) row[j] *= share;
            row[labels[i]] -= scale;
        } else {
#pragma omp simd reduction(+ : sum)
            for (i64 j = 0; j < width; j++) sum += exponential(row[j] - largest);
        }
        losses[i] = logf(sum) + largest - target;
    }
}

/* --- matrix products of attention ---------------------------------------------------------------------------------- */

/* C[MR, NV * VL] (+)= A[MR, k] B[k, NV * VL]; A has strides (rs, cs), which makes transposed ones free. */
#define MICRO(MR, NV)                                                                                                  \
    INLINE void micro_##MR##_##NV(const float *a, i64 rs, i64 cs, const float *b, i64 ldb, float *c, i64 ldc, i64 k,   \
                                  int add)                                                                             \
    {                                                                                                                  \
        vec sum[MR][NV];                                                                                               \
        _Pragma("GCC unroll 16") for (int i = 0; i < MR; i++)                                                          \
            _Pragma("GCC unroll 4") for (int j = 0; j < NV; j++)                                                       \
                sum[i][j] = add ? *(vec *)(c + i * ldc + j * VL) : (vec){0};                                           \
        for (i64 p = 0; p < k; p++) {                                                                                  \
            vec right[NV];                                                                                             \
            _Pragma("GCC unroll 4") for (int j = 0; j < NV; j++) right[j] = *(const vec *)(b + p * ldb + j * VL);      \
            _Pragma("GCC unroll 16") for (int i = 0; i < MR; i++) {                                                    \
                float left = a[i * rs + p * cs];                                                                       \
                _Pragma("GCC unroll 4") for (int j = 0; j < NV; j++) sum[i][j] += left * right[j];                     \
            }                                                                                                          \
        }                                                                                                              \
        _Pragma("GCC unroll 16") for (int i = 0; i < MR; i++)                                                          \
            _Pragma("GCC unroll 4") for (int j = 0; j < NV; j++) *(vec *)(c + i * ldc + j * VL) = sum[i][j];           \
    }

#if VL == 16
#define ROWS 8
MICRO(8, 2)
MICRO(8, 1)
#define MICRO_WIDE micro_8_2
#define MICRO_NARROW micro_8_1
#else
#define ROWS 4
MICRO(4, 2)
MICRO(4, 1)
#define MICRO_WIDE micro_4_2
#define MICRO_NARROW micro_4_1
#endif
MICRO(1, 2)
MICRO(1, 1)

/* C[m, n] (+)= A[m, k] B[k, n]; n is a multiple of VL. */
static void product(i64 m, i64 n, i64 k, const float *a, i64 rs, i64 cs, const float *b, i64 ldb, float *c, i64 ldc,
                    int add)
{
    i64 j = 0;
    for (; j + 2 * VL <= n; j += 2 * VL) {
        i64 i = 0;
        for (; i + ROWS <= m; i += ROWS)
            MICRO_WIDE(a + i * rs, rs, cs, b + j, ldb, c + i * ldc + j, ldc, k, add);
        for (; i < m; i++) micro_1_2(a + i * rs, rs, cs, b + j, ldb, c + i * ldc + j, ldc, k, add);
    }
    for (; j < n; j += VL) {
        i64 i = 0;
        for (; i + ROWS <= m; i += ROWS)
            MICRO_NARROW(a + i * rs, rs, cs, b + j, ldb, c + i * ldc + j, ldc, k, add);
        for (; i < m; i++) micro_1_1(a + i * rs, rs, cs, b + j, ldb, c + i * ldc + j, ldc, k, add);
    }
}

/* --- attention ----------------------------------------------------------------------------------------------------- */

#define QUERIES 64 /* rows of a block of scores */

/* to[length, size] = (from + bias) * factor, from rows `stride` apart */
static void gather(const float *from, i64 stride, const float *bias, float factor, i64 length, i64 size, float *to)
{
    for (i64 t = 0; t < length; t++) {
        const float *restrict row = from + t * stride;
        float *restrict out = to + t * size;
#pragma omp simd
        for (i64 d = 0; d < size; d++) out[d] = (row[d] + bias[d]) * factor;
    }
}

/* to[size, padded] = from[length, size] transposed, zeros beyond length */
static void transpose(const float *from, i64 length, i64 size, float *to, i64 padded)
{
    for (i64 d0 = 0; d0 < size; d0 += 16) {
        i64 d1 = d0 + 16 < size ? d0 + 16 : size;
        for (i64 t = 0; t < length; t++)
            for (i64 d = d0; d < d1; d++) to[d * padded + t] = from[t * size + d];
        for (i64 d = d0; d < d1; d++)
            for (i64 t = length; t < padded; t++) to[d * padded + t] = 0.0f;
    }
}

/* A thread's scratch memory, kept for its next call: to give it back and fetch it again would cost page faults. */
static float *scratch(i64 floats)
{
    static _Thread_local float *memory = NULL;
    static _Thread_local i64 size = 0;
    if (size < floats) {
        free(memory);
        memory = aligned_alloc(64, (sizeof(float) * floats + 63) / 64 * 64);
        size = memory ? floats : 0;
    }
    return memory;
}

/* Self-attention of packed sequences, of all tokens or of some.
 *
 * Rows of q are q_stride apart, those of kv (keys, then values) kv_stride; heads * size numbers of each, head after head,
 * without their bias[3 * heads * size]. Sequence s is the queries q_bounds[s] ... q_bounds[s + 1] - 1 and the keys
 * bounds[s] ... bounds[s + 1] - 1. out[queries, heads * size]; lse[heads, queries] = log of the sum of exponentials. size
 * is a multiple of VL. Returns nonzero if memory is short. */
int attention_forward(const float *q, i64 q_stride, const float *kv, i64 kv_stride, const float *bias,
                      const i64 *q_bounds, const i64 *bounds, i64 sequences, i64 heads, i64 size, float *out,
                      float *lse, double p, uint64_t seed, int threads)
{
    const i64 hidden = heads * size, total = q_bounds[sequences];
    const float factor = 1.0f / sqrtf((float)size), rescale = (float)(1.0 / (1.0 - p));
    const uint32_t limit = limit_of(p);
    i64 longest = 0;
    for (i64 s = 0; s < sequences; s++)
        if (bounds[s + 1] - bounds[s] > longest) longest = bounds[s + 1] - bounds[s];
    const i64 widest = (longest + VL - 1) / VL * VL;
    int failed = 0;
#pragma omp parallel num_threads(threads)
    {
        float *memory = scratch(2 * longest * size + size * widest + QUERIES * (size + widest));
        float *keys = memory, *values = keys + longest * size, *turned = values + longest * size;
        float *queries = turned + size * widest, *scores = queries + QUERIES * size;
        if (!memory) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(dynamic, 1)
        for (i64 task = 0; task < sequences * heads; task++) {
            if (!memory) continue;
            const i64 s = task / heads, head = task % heads, start = bounds[s], length = bounds[s + 1] - start;
            const i64 padded = (length + VL - 1) / VL * VL;
            const i64 asking = q_bounds[s], queried = q_bounds[s + 1] - asking;
            const float *base = kv + start * kv_stride + head * size, *own = bias + head * size;
            if (!queried) continue;
            gather(base, kv_stride, own + hidden, 1.0f, length, size, keys);
            gather(base + hidden, kv_stride, own + 2 * hidden, 1.0f, length, size, values);
            transpose(keys, length, size, turned, padded);
            for (i64 first = asking; first < asking + queried; first += QUERIES) {
                const i64 left = asking + queried - first, count = left < QUERIES ? left : QUERIES;
                gather(q + first * q_stride + head * size, q_stride, own, factor, count, size, queries);
                product(count, padded, size, queries, size, 1, turned, padded, scores, padded, 0);
                for (i64 i = 0; i < count; i++) {
                    float *restrict row = scores + i * padded;
                    float largest = -INFINITY, sum = 0.0f;
#pragma omp simd reduction(max : largest)
                    for (i64 j = 0; j < length; j++) largest = row[j] > largest ? row[j] : largest;
#pragma omp simd reduction(+ : sum)
                    for (i64 j = 0; j < length; j++) {
                        row[j] = exponential(row[j] - largest);
                        sum += row[j];
                    }
                    lse[head * total + first + i] = largest + logf(sum);
                    const float share = rescale / sum;
                    if (p > 0.0) {
                        const uint32_t key = row_key(seed, (first + i) * heads + head);
#pragma omp simd
                        for (i64 j = 0; j < length; j++) row[j] *= kept(key, j, limit) * share;
                    } else {
#pragma omp simd
                        for (i64 j = 0; j < length; j++) row[j] *= share;
                    }
                }
                product(count, size, length, scores, padded, 1, values, size,
                        out + first * hidden + head * size, hidden, 0);
            }
        }
    }
    return failed;
}

/* dq and dkv, laid out as q and kv, from the arguments of forward, its lse, and dout[queries, heads * size]. */
int attention_backward(const float *q, i64 q_stride, const float *kv, i64 kv_stride, const float *bias,
                       const i64 *q_bounds, const i64 *bounds, i64 sequences, i64 heads, i64 size, const float *lse,
                       const float *dout, float *dq, float *dkv, double p, uint64_t seed, int threads)
{
    const i64 hidden = heads * size, total = q_bounds[sequences];
    const float factor = 1.0f / sqrtf((float)size), rescale = (float)(1.0 / (1.0 - p));
    const uint32_t limit = limit_of(p);
    i64 longest = 0;
    for (i64 s = 0; s < sequences; s++)
        if (bounds[s + 1] - bounds[s] > longest) longest = bounds[s + 1] - bounds[s];
    const i64 widest = (longest + VL - 1) / VL * VL;
    int failed = 0;
#pragma omp parallel num_threads(threads)
    {
        float *memory = scratch(2 * longest * size + 2 * size * widest + QUERIES * (size + 3 * widest));
        float *keys = memory, *values = keys + longest * size, *keys_turned = values + longest * size;
        float *values_turned = keys_turned + size * widest, *queries = values_turned + size * widest;
        float *shown = queries + QUERIES * size, *slope = shown + QUERIES * widest, *scores = slope + QUERIES * widest;
        if (!memory) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(dynamic, 1)
        for (i64 task = 0; task < sequences * heads; task++) {
            if (!memory) continue;
            const i64 s = task / heads, head = task % heads, start = bounds[s], length = bounds[s + 1] - start;
            const i64 padded = (length + VL - 1) / VL * VL;
            const i64 asking = q_bounds[s], queried = q_bounds[s + 1] - asking;
            const float *base = kv + start * kv_stride + head * size, *own = bias + head * size;
            float *dbase = dkv + start * kv_stride + head * size;
            for (i64 t = 0; t < length && !queried; t++) {
                memset(dbase + t * kv_stride, 0, sizeof(float) * size);
                memset(dbase + t * kv_stride + hidden, 0, sizeof(float) * size);
            }
            if (!queried) continue;
            gather(base, kv_stride, own + hidden, 1.0f, length, size, keys);
            gather(base + hidden, kv_stride, own + 2 * hidden, 1.0f, length, size, values);
            transpose(keys, length, size, keys_turned, padded);
            transpose(values, length, size, values_turned, padded);
            for (i64 first = asking; first < asking + queried; first += QUERIES) {
                const i64 left = asking + queried - first, count = left < QUERIES ? left : QUERIES;
                const int later = first > asking;
                const float *up = dout + first * hidden + head * size;
                float *dquery = dq + first * q_stride + head * size;
                gather(q + first * q_stride + head * size, q_stride, own, factor, count, size, queries);
                product(count, padded, size, queries, size, 1, keys_turned, padded, scores, padded, 0);
                product(count, padded, size, up, hidden, 1, values_turned, padded, slope, padded, 0);
                for (i64 i = 0; i < count; i++) {
                    float *restrict row = scores + i * padded, *restrict grad = slope + i * padded;
                    float *restrict seen = shown + i * padded;
                    const float base_line = lse[head * total + first + i];
                    float sum = 0.0f;
                    if (p > 0.0) {
                        const uint32_t key = row_key(seed, (first + i) * heads + head);
#pragma omp simd reduction(+ : sum)
                        for (i64 j = 0; j < length; j++) {
                            float keep = kept(key, j, limit) * rescale, share = exponential(row[j] - base_line);
                            seen[j] = share * keep;
                            grad[j] *= keep;
                            sum += share * grad[j];
                            row[j] = share;
                        }
                    } else {
#pragma omp simd reduction(+ : sum)
                        for (i64 j = 0; j < length; j++) {
                            float share = exponential(row[j] - base_line);
                            seen[j] = share;
                            sum += share * grad[j];
                            row[j] = share;
                        }
                    }
#pragma omp simd
                    for (i64 j = 0; j < length; j++) grad[j] = row[j] * (grad[j] - sum);
                }
                product(length, size, count, shown, 1, padded, up, hidden, dbase + hidden, kv_stride, later);
                product(length, size, count, slope, 1, padded, queries, size, dbase, kv_stride, later);
                product(count, size, length, slope, padded, 1, keys, size, dquery, q_stride, 0);
                for (i64 i = 0; i < count; i++) {
                    float *restrict row = dquery + i * q_stride;
#pragma omp simd
                    for (i64 j = 0; j < size; j++) row[j] *= factor;
                }
            }
        }
    }
    return failed;
}
