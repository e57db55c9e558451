// Convolution as one matrix product: pixels x (tap, channel) times (tap, channel) x outputs, all in 8 bits, sums in 32.
//
// A block computes TILE_M windows x TILE_N outputs. What is summed over comes in chunks of 16 channels: chunk q is channels
// 16 (q % chunks) and following of tap q / chunks, so that no tap is filled up to more than a multiple of 16. Four chunks are a
// stage; STAGES of them are under way while one is multiplied. Windows may be any (a list), or all.

// Bytes of a stage along what is summed over.
#define STAGE 64
#if ARCH >= 800
#define STAGES 4
#else
#define STAGES 2
#endif

// The weights that see some channels of the input and give one range of outputs.
struct ConvPass {
    u32 weights;      // where they start, bytes: [outputs, filled up to tiles][stages * STAGE bytes, or half of it for 4 bits]
    u32 lanes;        // where start, multiplier and bias start
    u32 input_first;  // channel
    u32 output_at;    // where its first output of window 0 lies, elements
    u32 outputs;
    u32 chunks;  // of a tap
};

struct ConvArgs {
    const u8* input;
    const u8* weights;
    const i32* start;
    const float* multiplier;
    const float* bias;
    const ConvPass* passes;
    const u32* list;      // windows to compute; null: all
    const u32* list_len;  // how many there are in the list
    void* output;         // bytes or floats
    const u8* addend;     // a residual addition's other summand, an image of bytes; null: none
    u32 windows;
    u32 windows_x;
    u32 taps;
    u32 input_row;     // from a window to the one below, bytes
    u32 input_pixel;   // from a window to its neighbour, bytes
    u32 input_origin;  // the first window
    u32 tap_row;       // from a tap to the one below, bytes
    u32 tap_pixel;     // from a tap to its neighbour, bytes
    u32 output_row;    // elements
    u32 output_pixel;
    u32 floats;  // whether the output is floats
    Clamp clamp;
    u32 addend_row;  // bytes
    u32 addend_pixel;
    u32 addend_at;  // where the summand of output 0 of window 0 lies
    u32 output_first;  // where output 0 of window 0 lies, elements
    i32 addend_zero;
    float own_factor;
    float addend_factor;
    u32 addend_leads;  // whether the summand is the first one of the sum
    Clamp sum_clamp;
};

// Where chunk `chunk` of row `row` lies in a tile of shared memory with CHUNKS chunks of 16 bytes a row, so that eight rows'
// equal chunks lie in different banks.
template <int CHUNKS>
__device__ __forceinline__ u32 shared_chunk(u32 row, u32 chunk) {
    const u32 rows_per_line = 8 / CHUNKS;
    return (row * CHUNKS + (chunk ^ (row / rows_per_line % CHUNKS))) * 16;
}

// 16 bytes from anywhere, where they may be copied in one piece and where not.
template <bool ALIGNED>
__device__ __forceinline__ void copy_chunk(u8* to, const u8* from) {
    if (ALIGNED) {
        copy_async16(to, from);
    } else {
        u32 words[4];
        for (int w = 0; w < 4; w++) {
            words[w] = (u32)from[4 * w] | (u32)from[4 * w + 1] << 8 | (u32)from[4 * w + 2] << 16 | (u32)from[4 * w + 3] << 24;
        }
        *(uint4*)to = make_uint4(words[0], words[1], words[2], words[3]);
    }
}

// Two 4-bit weights share a byte, those of k and k + 16. As bytes they are 16 times as large; sums are divided at the end.
__device__ __forceinline__ u32 low_weights(u32 packed) { return packed << 4 & 0xf0f0f0f0u; }
__device__ __forceinline__ u32 high_weights(u32 packed) { return packed & 0xf0f0f0f0u; }

// The position in what is summed over of the chunk that a thread copies.
struct Cursor {
    u32 chunk;
    u32 x;
    u32 y;

    __device__ __forceinline__ void advance(u32 by, u32 chunks, u32 taps) {
        chunk += by;
        while (chunk >= chunks) {
            chunk -= chunks;
            if (++x == taps) {
                x = 0;
                y++;
            }
        }
    }
};

template <int WARPS_M, int WARPS_N, int TILES_M, int TILES_N, int BITS, bool ALIGNED>
__device__ __forceinline__ void conv(const ConvArgs& a) {
    constexpr int TILE_M = WARPS_M * TILES_M * 16;
    constexpr int TILE_N = WARPS_N * TILES_N * 8;
    constexpr int CONV_THREADS = WARPS_M * WARPS_N * 32;
    constexpr int CHUNKS = STAGE / 16;
    constexpr int WEIGHT_CHUNKS = CHUNKS * BITS / 8;
    constexpr int INPUT_BYTES = TILE_M * STAGE;
    constexpr int WEIGHT_BYTES = TILE_N * WEIGHT_CHUNKS * 16;
    constexpr int ROWS = TILE_M * CHUNKS / CONV_THREADS;  // that a thread copies in each stage

    SHARED(shared, STAGES * (INPUT_BYTES + WEIGHT_BYTES));
    u8* const inputs = shared;
    u8* const weights = shared + STAGES * INPUT_BYTES;

    const ConvPass pass = a.passes[blockIdx.z];
    const u32 windows = a.list ? *a.list_len : a.windows;
    const u32 first_m = blockIdx.x * TILE_M, first_n = blockIdx.y * TILE_N;
    if (first_m >= windows || first_n >= pass.outputs) return;
    const u32 thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
    // Rows beyond the last window repeat it, and are not written.
    const auto window = [&](u32 m) {
        m = min(first_m + m, windows - 1);
        return a.list ? a.list[m] : m;
    };

    u32 row_at[ROWS];
    for (int i = 0; i < ROWS; i++) {
        const u32 w = window(thread / CHUNKS + i * (CONV_THREADS / CHUNKS));
        row_at[i] = a.input_origin + w / a.windows_x * a.input_row + w % a.windows_x * a.input_pixel + pass.input_first;
    }
    const u32 stages = (a.taps * a.taps * pass.chunks + CHUNKS - 1) / CHUNKS;
    const u8* const pass_weights = a.weights + pass.weights + (u64)first_n * stages * (WEIGHT_CHUNKS * 16);
    Cursor cursor = {0, 0, 0};
    cursor.advance(thread % CHUNKS, pass.chunks, a.taps);

    const auto copy_stage = [&](u32 stage) {
        const u32 slot = stage % STAGES;
        // Behind the last tap all weights are 0, and anything may be read.
        const u32 at = cursor.y < a.taps ? cursor.y * a.tap_row + cursor.x * a.tap_pixel + cursor.chunk * 16 : 0;
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            const u32 row = thread / CHUNKS + i * (CONV_THREADS / CHUNKS);
            copy_chunk<ALIGNED>(inputs + slot * INPUT_BYTES + shared_chunk<CHUNKS>(row, thread % CHUNKS), a.input + row_at[i] + at);
        }
        cursor.advance(CHUNKS, pass.chunks, a.taps);
        for (u32 c = thread; c < TILE_N * WEIGHT_CHUNKS; c += CONV_THREADS) {
            const u32 row = c / WEIGHT_CHUNKS, chunk = c % WEIGHT_CHUNKS;
            copy_async16(weights + slot * WEIGHT_BYTES + shared_chunk<WEIGHT_CHUNKS>(row, chunk),
                         pass_weights + ((u64)row * stages + stage) * (WEIGHT_CHUNKS * 16) + chunk * 16);
        }
    };

    i32 sums[TILES_M][TILES_N][4] = {};
    const u32 warp_m = warp % WARPS_M * (TILES_M * 16), warp_n = warp / WARPS_M * (TILES_N * 8);

    for (u32 stage = 0; stage < STAGES - 1; stage++) {
        if (stage < stages) copy_stage(stage);
        copy_async_commit();
    }
    for (u32 stage = 0; stage < stages; stage++) {
        copy_async_wait<STAGES - 2>();
        __syncthreads();  // this stage is there for all, and the slot of the one before is free
        if (stage + STAGES - 1 < stages) copy_stage(stage + STAGES - 1);
        copy_async_commit();
        const u8* const input = inputs + stage % STAGES * INPUT_BYTES;
        const u8* const weight = weights + stage % STAGES * WEIGHT_BYTES;
#pragma unroll
        for (int k = 0; k < STAGE / 32; k++) {
#if ARCH >= 750
            u32 in[TILES_M][4];
#pragma unroll
            for (int m = 0; m < TILES_M; m++) {
                load_matrices(in[m], input + shared_chunk<CHUNKS>(warp_m + m * 16 + lane % 16, 2 * k + lane / 16));
            }
#pragma unroll
            for (int n = 0; n < TILES_N; n++) {
                const u32 row = warp_n + n * 8 + lane % 8;
                u32 by[2];
                if (BITS == 8) {
                    load_matrices(by, weight + shared_chunk<WEIGHT_CHUNKS>(row, 2 * k + lane / 8 % 2));
                } else {
                    u32 packed[1];
                    load_matrices(packed, weight + shared_chunk<WEIGHT_CHUNKS>(row, k));
                    by[0] = low_weights(packed[0]);
                    by[1] = high_weights(packed[0]);
                }
#pragma unroll
                for (int m = 0; m < TILES_M; m++) multiply(sums[m][n], in[m], by);
            }
#else
            // The same sums in the same lanes: rows lane / 4 (+ 8), outputs 2 (lane % 4) (+ 1).
            for (int quad = 0; quad < 8; quad++) {
                u32 in[TILES_M][2], by[TILES_N][2];
#pragma unroll
                for (int m = 0; m < 2 * TILES_M; m++) {
                    const u32 at = shared_chunk<CHUNKS>(warp_m + m * 8 + lane / 4, 2 * k + quad / 4);
                    in[m / 2][m % 2] = *(const u32*)(input + at + quad % 4 * 4);
                }
#pragma unroll
                for (int n = 0; n < 2 * TILES_N; n++) {
                    const u32 row = warp_n + n / 2 * 8 + 2 * (lane % 4) + n % 2, at = quad % 4 * 4;
                    if (BITS == 8) {
                        by[n / 2][n % 2] = *(const u32*)(weight + shared_chunk<WEIGHT_CHUNKS>(row, 2 * k + quad / 4) + at);
                    } else {
                        const u32 packed = *(const u32*)(weight + shared_chunk<WEIGHT_CHUNKS>(row, k) + at);
                        by[n / 2][n % 2] = quad < 4 ? low_weights(packed) : high_weights(packed);
                    }
                }
#pragma unroll
                for (int m = 0; m < TILES_M; m++) {
#pragma unroll
                    for (int n = 0; n < TILES_N; n++) {
#pragma unroll
                        for (int i = 0; i < 4; i++) sums[m][n][i] = dot(in[m][i / 2], by[n][i % 2], sums[m][n][i]);
                    }
                }
            }
#endif
        }
    }
    copy_async_wait<0>();
    __syncthreads();  // shared memory is free for results

    const auto output_at = [&](u32 w) { return w / a.windows_x * a.output_row + w % a.windows_x * a.output_pixel + pass.output_at; };
    constexpr int RESULT_ROW = TILE_N + 16;  // neighbouring rows start in different banks
    static_assert(TILE_M * RESULT_ROW <= STAGES * (INPUT_BYTES + WEIGHT_BYTES), "results fit");
#pragma unroll
    for (int n = 0; n < TILES_N; n++) {
        const u32 output = warp_n + n * 8 + lane % 4 * 2;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const u32 at = pass.lanes + first_n + output + i;
            const i32 start = a.start[at];
            const float multiplier = a.multiplier[at], bias = a.bias[at];
#pragma unroll
            for (int m = 0; m < 2 * TILES_M; m++) {
                const i32 product = sums[m / 2][n][m % 2 * 2 + i];
                const i32 sum = (i32)((u32)start + (u32)(BITS == 8 ? product : product >> 4));
                const float y = __fmaf_rn((float)sum, multiplier, bias);
                const u32 row = warp_m + m * 8 + lane / 4;
                if (!a.floats) {
                    shared[row * RESULT_ROW + output + i] = clamped_byte(a.clamp, y);
                } else if (first_m + row < windows && first_n + output + i < pass.outputs) {
                    ((float*)a.output)[output_at(window(row)) + first_n + output + i] = fmaxf(y, a.clamp.low);
                }
            }
        }
    }
    if (a.floats) return;
    __syncthreads();

    // Bytes leave in pieces of 16 where they may.
    constexpr int PIECE = TILE_N < 16 ? TILE_N : 16;
    for (u32 c = thread; c < TILE_M * (TILE_N / PIECE); c += CONV_THREADS) {
        const u32 row = c / (TILE_N / PIECE), first = c % (TILE_N / PIECE) * PIECE;
        if (first_m + row >= windows || first_n + first >= pass.outputs) continue;
        u8* const from = shared + row * RESULT_ROW + first;
        const u32 w = window(row), used = min((u32)PIECE, pass.outputs - first_n - first);
        u8* const to = (u8*)a.output + output_at(w) + first_n + first;
        if (a.addend) {
            const u8* const other = a.addend + a.addend_at + w / a.windows_x * a.addend_row + w % a.windows_x * a.addend_pixel +
                                    (pass.output_at - a.output_first) + first_n + first;
            for (u32 i = 0; i < used; i++) {
                const float own = (float)((i32)from[i] - a.clamp.zero), added = (float)((i32)other[i] - a.addend_zero);
                const float y = a.addend_leads ? __fmaf_rn(added, a.addend_factor, __fmul_rn(own, a.own_factor))
                                               : __fmaf_rn(own, a.own_factor, __fmul_rn(added, a.addend_factor));
                from[i] = clamped_byte(a.sum_clamp, y);
            }
        }
        if (PIECE == 16 && used == 16 && (u64)to % 16 == 0) {
            *(uint4*)to = *(const uint4*)from;
        } else {
            for (u32 i = 0; i < used; i++) to[i] = from[i];
        }
    }
}

// Windows x outputs of a block, bits of a weight; `any` reads inputs that start anywhere, the others those that start at
// multiples of 16.
#define CONV(name, warps_m, warps_n, tiles_m, tiles_n, bits, aligned) \
    KERNEL(name, ConvArgs, 32 * warps_m * warps_n) { conv<warps_m, warps_n, tiles_m, tiles_n, bits, aligned>(a); }

CONV(conv_128x64_w8, 2, 2, 4, 4, 8, true)
CONV(conv_128x64_w4, 2, 2, 4, 4, 4, true)
CONV(conv_128x8_w8, 4, 1, 2, 1, 8, true)
CONV(conv_128x8_w4, 4, 1, 2, 1, 4, true)
CONV(conv_128x64_w8_any, 2, 2, 4, 4, 8, false)
CONV(conv_128x64_w4_any, 2, 2, 4, 4, 4, false)
CONV(conv_128x8_w8_any, 4, 1, 2, 1, 8, false)
CONV(conv_128x8_w4_any, 4, 1, 2, 1, 4, false)
