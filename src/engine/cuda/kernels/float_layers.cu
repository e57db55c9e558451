// Layers of floats, forwards and backwards, as the CPU defines them: every sum is a chain of fused multiply-adds in one order, so
// results are the CPU's to the bit. All are one walk of a window over channels-last images (`Pass` in engine/float/correlate.rs),
// computed as a product of matrices; outside of the image are zeros, which leave a sum as it is.

#define LAYER_THREADS 128
#define DEPTH 16  // steps of a sum that are in shared memory at a time, twice
#define POSITIONS 128
#define CHANNELS 64

struct PackArgs {
    const float* weight;
    float* packed;  // [taps y][taps x][channels][outputs]
    u32 taps_y;
    u32 taps_x;
    u32 channels;
    u32 outputs;
    i32 first;  // where the weight of tap 0, channel 0, output 0 is, and the way from there
    i32 of_y;
    i32 of_x;
    i32 of_channel;
    i32 of_output;
};

// Weights in the order in which a pass reads them.
KERNEL(pack_weights, PackArgs, THREADS) {
    EACH(i, a.taps_y * a.taps_x * a.channels * a.outputs) {
        const u32 o = i % a.outputs, c = i / a.outputs % a.channels, tap = i / a.outputs / a.channels;
        const i32 y = (i32)(tap / a.taps_x), x = (i32)(tap % a.taps_x);
        a.packed[i] = a.weight[a.first + y * a.of_y + x * a.of_x + (i32)c * a.of_channel + (i32)o * a.of_output];
    }
}

struct CorrelateArgs {
    const float* input;    // [samples][input_height][input_width][channels]
    const float* weights;  // as packed
    const float* bias;     // null: none
    float* output;
    u32 samples;
    u32 input_height;
    u32 input_width;
    u32 channels;
    u32 taps_y;
    u32 taps_x;
    u32 step;
    i32 origin_y;  // input coordinate of tap 0 at output 0
    i32 origin_x;
    u32 height;  // outputs of this pass
    u32 width;
    u32 outputs;
    u32 sample_stride;  // where they go: floats from sample to sample, to the first, from row to row, from one to the next
    u32 base;
    u32 row_stride;
    u32 column_stride;
    u32 relu;
};

// Where a walk over (tap y, tap x, channel) is.
struct Step {
    u32 y;
    u32 x;
    u32 channel;
};

__device__ __forceinline__ void advance(Step& at, u32 by, u32 channels, u32 taps_x) {
    at.channel += by;
    if (at.channel >= channels) {
        at.channel = 0;
        if (++at.x == taps_x) {
            at.x = 0;
            at.y++;
        }
    }
}

__device__ __forceinline__ void load4(float* to, const float* from) {
    const float4 four = *(const float4*)from;
    to[0] = four.x;
    to[1] = four.y;
    to[2] = four.z;
    to[3] = four.w;
}

__device__ __forceinline__ void store4(float* to, const float* from) { *(float4*)to = make_float4(from[0], from[1], from[2], from[3]); }

// The column of a tile that is number `j` of a thread's: groups of four, side by side over the threads of a row.
template <int COLUMNS, int OF_THREAD>
__device__ __forceinline__ u32 column_of(u32 thread_column, u32 j) {
    return j / 4 * (COLUMNS * 4 / OF_THREAD) + thread_column * 4 + j % 4;
}

// sums[i][j] += left[k][first_row + i] * right[k][column j of this thread's], for all k < depth in their order. A chunk of DEPTH is
// summed from one side of shared memory while `fetch` copies the next one to registers, from which `put` brings it to the other side.
template <int ROWS, int SUMS, int LEFT, int COLUMNS, typename Fetch, typename Put>
__device__ __forceinline__ void add_products(float (&sums)[ROWS][SUMS], u32 depth, float (*left)[DEPTH][LEFT], float (*right)[DEPTH][COLUMNS],
                                             u32 first_row, u32 thread_column, const Fetch& fetch, const Put& put) {
    fetch(0);
    put(0);
    __syncthreads();
    int side = 0;
    for (u32 k = 0; k < depth; k += DEPTH) {
        const bool more = k + DEPTH < depth;
        if (more) fetch(k + DEPTH);
#pragma unroll
        for (int d = 0; d < DEPTH; d++) {
            float x[ROWS], w[SUMS];
            if (ROWS % 4 == 0) {
#pragma unroll
                for (int i = 0; i < ROWS; i += 4) load4(x + i, &left[side][d][first_row + i]);
            } else {
#pragma unroll
                for (int i = 0; i < ROWS; i++) x[i] = left[side][d][first_row + i];
            }
#pragma unroll
            for (int j = 0; j < SUMS; j += 4) load4(w + j, &right[side][d][column_of<COLUMNS, SUMS>(thread_column, j)]);
#pragma unroll
            for (int i = 0; i < ROWS; i++) {
#pragma unroll
                for (int j = 0; j < SUMS; j++) sums[i][j] = __fmaf_rn(x[i], w[j], sums[i][j]);
            }
        }
        side = 1 - side;
        if (more) put(side);
        __syncthreads();
    }
}

// POSITIONS windows times COLUMNS outputs a block, ROWS x 8 sums a thread. WHOLE: chunks of DEPTH channels lie in one tap, and start at
// multiples of 16 bytes.
template <bool WHOLE, int COLUMNS, int ROWS>
__device__ __forceinline__ void correlate(const CorrelateArgs& a, float (*left)[DEPTH][POSITIONS], float (*right)[DEPTH][COLUMNS]) {
    constexpr int SUMS = 8, FETCHES = DEPTH * COLUMNS / LAYER_THREADS;
    const u32 t = threadIdx.x, positions = a.samples * a.height * a.width, depth = a.taps_y * a.taps_x * a.channels;
    const u32 first_column = blockIdx.y * COLUMNS;

    // This thread copies the windows of one position.
    const u32 own = blockIdx.x * POSITIONS + t;
    const u32 own_sample = own / (a.height * a.width), own_y = own / a.width % a.height, own_x = own % a.width;
    const i32 top = a.origin_y + (i32)(own_y * a.step), left_edge = a.origin_x + (i32)(own_x * a.step);
    const float* const image = a.input + (u64)own_sample * a.input_height * a.input_width * a.channels;
    Step at = {0, 0, 0};

    float windows[DEPTH], weights[FETCHES];
    auto pixel = [&](bool& inside) {
        const u32 y = (u32)(top + (i32)at.y), x = (u32)(left_edge + (i32)at.x);
        inside = own < positions && at.y < a.taps_y && y < a.input_height && x < a.input_width;
        return image + (inside ? ((u64)y * a.input_width + x) * a.channels + at.channel : 0);
    };
    auto fetch = [&](u32 k) {
        if (WHOLE) {
            bool inside;
            const float* const from = pixel(inside);
#pragma unroll
            for (int i = 0; i < DEPTH; i++) windows[i] = 0.0f;
            if (inside) {
#pragma unroll
                for (int i = 0; i < DEPTH; i += 4) load4(windows + i, from + i);
            }
            advance(at, DEPTH, a.channels, a.taps_x);
        } else {
#pragma unroll
            for (int i = 0; i < DEPTH; i++) {
                bool inside;
                const float* const from = pixel(inside);
                windows[i] = inside ? *from : 0.0f;
                advance(at, 1, a.channels, a.taps_x);
            }
        }
#pragma unroll
        for (int i = 0; i < FETCHES; i++) {
            const u32 row = k + (i * LAYER_THREADS + t) / COLUMNS, column = first_column + t % COLUMNS;
            weights[i] = row < depth && column < a.outputs ? a.weights[(u64)row * a.outputs + column] : 0.0f;
        }
    };
    auto put = [&](int side) {
#pragma unroll
        for (int i = 0; i < DEPTH; i++) left[side][i][t] = windows[i];
#pragma unroll
        for (int i = 0; i < FETCHES; i++) right[side][(i * LAYER_THREADS + t) / COLUMNS][t % COLUMNS] = weights[i];
    };

    const u32 thread_column = t % (COLUMNS / SUMS), first_row = t / (COLUMNS / SUMS) * ROWS;
    float sums[ROWS][SUMS];
#pragma unroll
    for (int j = 0; j < SUMS; j++) {
        const u32 column = first_column + column_of<COLUMNS, SUMS>(thread_column, j);
        const float start = a.bias && column < a.outputs ? a.bias[column] : 0.0f;
#pragma unroll
        for (int i = 0; i < ROWS; i++) sums[i][j] = start;
    }
    add_products(sums, depth, left, right, first_row, thread_column, fetch, put);
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        const u32 p = blockIdx.x * POSITIONS + first_row + i;
        if (p >= positions) continue;
        const u32 sample = p / (a.height * a.width), y = p / a.width % a.height, x = p % a.width;
        float* const to = a.output + ((u64)sample * a.sample_stride + a.base + y * a.row_stride + x * a.column_stride);
#pragma unroll
        for (int j = 0; j < SUMS; j++) sums[i][j] = a.relu && sums[i][j] < 0.0f ? 0.0f : sums[i][j];
#pragma unroll
        for (int j = 0; j < SUMS; j += 4) {
            const u32 column = first_column + column_of<COLUMNS, SUMS>(thread_column, j);
            if (a.outputs % 4 == 0) {
                if (column < a.outputs) store4(to + column, sums[i] + j);
            } else {
#pragma unroll
                for (int l = 0; l < 4; l++) {
                    if (column + l < a.outputs) to[column + l] = sums[i][j + l];
                }
            }
        }
    }
}

#define CORRELATE(name, whole, columns, rows)                                                     \
    KERNEL(name, CorrelateArgs, LAYER_THREADS) {                                                  \
        SHARED(left, 2 * DEPTH * POSITIONS * 4);                                                  \
        SHARED(right, 2 * DEPTH * columns * 4);                                                   \
        correlate<whole, columns, rows>(a, (float(*)[DEPTH][POSITIONS])left, (float(*)[DEPTH][columns])right); \
    }

CORRELATE(correlate_128x64, true, 64, 8)
CORRELATE(correlate_128x64_any, false, 64, 8)
CORRELATE(correlate_128x8, true, 8, 1)
CORRELATE(correlate_128x8_any, false, 8, 1)

struct WeightGradientArgs {
    const float* image;    // [samples][image_height][image_width][channels]: over which the window slides
    const float* windows;  // [samples][height][width][outputs]: where it stops
    float* parts;          // [samples * bands][taps][channels][outputs]
    u32 image_height;
    u32 image_width;
    u32 channels;
    u32 height;
    u32 width;
    u32 outputs;
    u32 taps;  // of a side
    u32 step;
    i32 padding;
    u32 channel_tiles;
    u32 band_rows;  // what is summed in one chain
    u32 band_columns;
    u32 bands_x;
    u32 bands;  // of a sample
};

// Gradients of the weights, band by band: CHANNELS channels of one tap times COLUMNS outputs a block, ROWS x 4 sums a thread.
// WHOLE: groups of four channels, and of four outputs, lie side by side.
template <bool WHOLE, int COLUMNS, int ROWS>
__device__ __forceinline__ void weight_gradient(const WeightGradientArgs& a, float (*left)[DEPTH][CHANNELS], float (*right)[DEPTH][COLUMNS]) {
    constexpr int SUMS = 4, COPIERS = LAYER_THREADS / DEPTH;  // threads that copy what one position has
    constexpr int LEFTS = CHANNELS / COPIERS, RIGHTS = COLUMNS / COPIERS;
    const u32 t = threadIdx.x;
    const u32 tap = blockIdx.x / a.channel_tiles, first_channel = blockIdx.x % a.channel_tiles * CHANNELS, first_output = blockIdx.y * COLUMNS;
    const u32 sample = blockIdx.z / a.bands, band = blockIdx.z % a.bands;
    const u32 top = band / a.bands_x * a.band_rows, left_edge = band % a.bands_x * a.band_columns;
    const u32 rows = min(a.band_rows, a.height - top), columns = min(a.band_columns, a.width - left_edge);
    const float* const image = a.image + (u64)sample * a.image_height * a.image_width * a.channels;
    const float* const windows = a.windows + (u64)sample * a.height * a.width * a.outputs;
    const i32 tap_y = (i32)(tap / a.taps) - a.padding, tap_x = (i32)(tap % a.taps) - a.padding;

    float xs[LEFTS], gs[RIGHTS];
    const u32 own_channel = first_channel + t % COPIERS * LEFTS, own_output = first_output + t % COPIERS * RIGHTS;
    auto fetch = [&](u32 k) {
        const u32 own = k + t / COPIERS, y = top + own / columns, x = left_edge + own % columns;
        const u32 image_y = (u32)((i32)(y * a.step) + tap_y), image_x = (u32)((i32)(x * a.step) + tap_x);
        const bool there = own < rows * columns && image_y < a.image_height && image_x < a.image_width;
        const float* const from_image = image + (there ? ((u64)image_y * a.image_width + image_x) * a.channels : 0);
        const float* const from_windows = windows + (there ? ((u64)y * a.width + x) * a.outputs : 0);
#pragma unroll
        for (int i = 0; i < LEFTS; i++) xs[i] = 0.0f;
#pragma unroll
        for (int i = 0; i < RIGHTS; i++) gs[i] = 0.0f;
        if (!there) return;
#pragma unroll
        for (int i = 0; i < LEFTS; i += WHOLE ? 4 : 1) {
            if (own_channel + i >= a.channels) continue;
            if (WHOLE) {
                load4(xs + i, from_image + own_channel + i);
            } else {
                xs[i] = from_image[own_channel + i];
            }
        }
#pragma unroll
        for (int i = 0; i < RIGHTS; i += WHOLE && RIGHTS % 4 == 0 ? 4 : 1) {
            if (own_output + i >= a.outputs) continue;
            if (WHOLE && RIGHTS % 4 == 0) {
                load4(gs + i, from_windows + own_output + i);
            } else {
                gs[i] = from_windows[own_output + i];
            }
        }
    };
    auto put = [&](int side) {
#pragma unroll
        for (int i = 0; i < LEFTS; i += 4) store4(&left[side][t / COPIERS][t % COPIERS * LEFTS + i], xs + i);
#pragma unroll
        for (int i = 0; i < RIGHTS; i++) right[side][t / COPIERS][t % COPIERS * RIGHTS + i] = gs[i];
    };

    const u32 thread_column = t % (COLUMNS / SUMS), first_row = t / (COLUMNS / SUMS) * ROWS;
    float sums[ROWS][SUMS] = {};
    add_products(sums, rows * columns, left, right, first_row, thread_column, fetch, put);
    float* const part = a.parts + ((u64)blockIdx.z * a.taps * a.taps + tap) * a.channels * a.outputs;
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        const u32 channel = first_channel + first_row + i;
#pragma unroll
        for (int j = 0; j < SUMS; j++) {
            const u32 output = first_output + column_of<COLUMNS, SUMS>(thread_column, j);
            if (channel < a.channels && output < a.outputs) part[(u64)channel * a.outputs + output] = sums[i][j];
        }
    }
}

#define WEIGHT_GRADIENT(name, whole, columns, rows)                                                       \
    KERNEL(name, WeightGradientArgs, LAYER_THREADS) {                                                     \
        SHARED(left, 2 * DEPTH * CHANNELS * 4);                                                           \
        SHARED(right, 2 * DEPTH * columns * 4);                                                           \
        weight_gradient<whole, columns, rows>(a, (float(*)[DEPTH][CHANNELS])left, (float(*)[DEPTH][columns])right); \
    }

WEIGHT_GRADIENT(weight_gradient_64x64, true, 64, 8)
WEIGHT_GRADIENT(weight_gradient_64x64_any, false, 64, 8)
WEIGHT_GRADIENT(weight_gradient_64x8_any, false, 8, 1)

struct SumPartsArgs {
    const float* parts;  // [count][taps][channels][outputs]
    float* sum;          // [outputs][channels][taps]
    u32 count;
    u32 taps;
    u32 channels;
    u32 outputs;
};

// One part after the other.
KERNEL(sum_parts, SumPartsArgs, THREADS) {
    const u32 size = a.taps * a.channels * a.outputs;
    EACH(i, size) {
        float sum = 0.0f;
        for (u32 part = 0; part < a.count; part++) sum += a.parts[(u64)part * size + i];
        const u32 o = i % a.outputs, c = i / a.outputs % a.channels, tap = i / a.outputs / a.channels;
        a.sum[((u64)o * a.channels + c) * a.taps + tap] = sum;
    }
}
