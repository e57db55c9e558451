// What happens to floats one by one, and between rows, pillars and images, forwards and backwards: engine/float/ops/ on the device.

struct ValuesArgs {
    const float* first;
    const float* second;  // null: the operation has one operand
    float* to;
    u32 count;
};

// What is no number stays none.
KERNEL(relu_forward, ValuesArgs, THREADS) {
    EACH(i, a.count) a.to[i] = a.first[i] < 0.0f ? 0.0f : a.first[i];
}

// From ReLU's result and its gradient.
KERNEL(relu_backward, ValuesArgs, THREADS) {
    EACH(i, a.count) a.to[i] = a.first[i] <= 0.0f ? 0.0f : a.second[i];
}

KERNEL(add_values, ValuesArgs, THREADS) {
    EACH(i, a.count) a.to[i] = a.first[i] + a.second[i];
}

struct ColumnsArgs {
    const float* from;
    float* to;
    u32 rows;
    u32 width;  // columns that are copied
    u32 from_width;
    u32 from_first;
    u32 to_width;
    u32 to_first;
};

KERNEL(copy_columns, ColumnsArgs, THREADS) {
    EACH(i, a.rows * a.width) {
        const u32 row = i / a.width, c = i % a.width;
        a.to[(u64)row * a.to_width + a.to_first + c] = a.from[(u64)row * a.from_width + a.from_first + c];
    }
}

struct WinnersArgs {
    const float* from;  // [pillars][channels]
    float* to;          // [rows][channels]
    const u32* winners;
    u32 pillars;
    u32 channels;
};

// Gradients to the winners; the other rows are zero already.
KERNEL(pillar_max_backward, WinnersArgs, THREADS) {
    EACH(i, a.pillars * a.channels) a.to[(u64)a.winners[i] * a.channels + i % a.channels] = a.from[i];
}

struct PillarCellsArgs {
    const float* from;
    float* to;
    const u32* cells;  // sample, y, x of each pillar
    u32 pillars;
    u32 channels;
    u32 height;
    u32 width;
};

__device__ __forceinline__ u64 cell_of(const PillarCellsArgs& a, u32 i) {
    const u32* const cell = a.cells + 3 * (i / a.channels);
    return (((u64)cell[0] * a.height + cell[1]) * a.width + cell[2]) * a.channels + i % a.channels;
}

// Pillars to their cells; the other cells are zero already.
KERNEL(pillar_scatter, PillarCellsArgs, THREADS) {
    EACH(i, a.pillars * a.channels) a.to[cell_of(a, i)] = a.from[i];
}

// The way back.
KERNEL(pillar_gather, PillarCellsArgs, THREADS) {
    EACH(i, a.pillars * a.channels) a.to[i] = a.from[cell_of(a, i)];
}

struct PillarSumArgs {
    const float* rows;  // [rows][width]
    float* sums;        // [pillars][channels]
    const u32* offsets;
    u32 pillars;
    u32 channels;
    u32 width;
    u32 first;  // of the columns that are summed
};

KERNEL(pillar_sum, PillarSumArgs, THREADS) {
    EACH(i, a.pillars * a.channels) {
        const u32 p = i / a.channels, c = i % a.channels;
        float sum = 0.0f;
        for (u32 row = a.offsets[p]; row < a.offsets[p + 1]; row++) sum += a.rows[(u64)row * a.width + a.first + c];
        a.sums[i] = sum;
    }
}

struct SnapArgs {
    const float* exact;
    const float* gradient;  // of backward
    float* to;
    float* of_step;
    u32 count;
    float inverse;
    float low;
    float high;
    float step;
    float share;  // of values that stay as they are; 0: none
    u32 seed_low;
    u32 seed_high;
};

// `Dropped::has`: SplitMix64's finaliser of seed and place, and the upper bits as a number in [0, 1).
__device__ __forceinline__ bool is_dropped(const SnapArgs& a, u32 place) {
    u64 x = ((u64)a.seed_high << 32 | a.seed_low) + place;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    x ^= x >> 31;
    return (float)(u32)(x >> 40) * (1.0f / 16777216.0f) < a.share;
}

KERNEL(snap_forward, SnapArgs, THREADS) {
    EACH(i, a.count) {
        const float x = a.exact[i], rounded = rintf(fminf(fmaxf(x * a.inverse, a.low), a.high)) * a.step;
        a.to[i] = a.share > 0.0f && is_dropped(a, i) ? x : rounded;
    }
}

KERNEL(snap_backward, SnapArgs, THREADS) {
    EACH(i, a.count) {
        const float u = a.exact[i] * a.inverse, g = a.gradient[i], rounded = rintf(fminf(fmaxf(u, a.low), a.high));
        const bool inside = u > a.low && u < a.high, dropped = a.share > 0.0f && is_dropped(a, i);
        a.of_step[i] = dropped ? 0.0f : g * (inside ? rounded - u : rounded);
        a.to[i] = inside || dropped ? g : 0.0f;
    }
}

struct FinishArgs {
    const float* sums;  // [rows][channels], of integers
    const float* multiplier;
    const float* bias;
    float* to;
    u32 count;
    u32 channels;
    float low;
    float high;
    float scale;
};

// The end of an integer layer: floats that bytes stand for.
KERNEL(finish_bytes, FinishArgs, THREADS) {
    EACH(i, a.count) {
        const u32 c = i % a.channels;
        a.to[i] = rintf(fminf(fmaxf(__fmaf_rn(a.sums[i], a.multiplier[c], a.bias[c]), a.low), a.high)) * a.scale;
    }
}

KERNEL(finish_floats, FinishArgs, THREADS) {
    EACH(i, a.count) {
        const u32 c = i % a.channels;
        a.to[i] = fmaxf(__fmaf_rn(a.sums[i], a.multiplier[c], a.bias[c]), a.low);
    }
}
