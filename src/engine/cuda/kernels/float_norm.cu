// Batch normalization of floats and its gradients: sums in doubles, over pieces of rows in their order, and over the pieces in theirs,
// as the CPU has them (engine/float/ops/norm.rs). Sums of other columns are made in the same way.

#define SUM_ROWS 64  // of a tile in shared memory
#define SUM_CHANNELS 32

struct SumRowsArgs {
    const float* values;   // [rows][channels]
    const float* inputs;   // of gradients: what was normalized
    const double* mean;
    void* parts;           // [pieces][channels], of gradients [pieces][2][channels]
    u32 rows;
    u32 channels;
    u32 piece;  // rows
};

enum SumKind { PLAIN, SQUARES, GRADIENTS };

// One warp adds, all of them bring what it needs.
template <typename Sum, SumKind KIND>
__device__ __forceinline__ void sum_rows(const SumRowsArgs& a, float (*values)[SUM_CHANNELS], float (*inputs)[SUM_CHANNELS]) {
    const u32 t = threadIdx.x, lane = t % SUM_CHANNELS, channel = blockIdx.y * SUM_CHANNELS + lane;
    const u32 end = min(a.rows, (blockIdx.x + 1) * a.piece);
    const bool adds = t < SUM_CHANNELS && channel < a.channels;
    const double mean = adds && KIND != PLAIN ? a.mean[channel] : 0.0;
    Sum sum = 0, centred = 0;
    for (u32 first = blockIdx.x * a.piece; first < end; first += SUM_ROWS) {
        for (u32 row = t / SUM_CHANNELS; row < SUM_ROWS; row += THREADS / SUM_CHANNELS) {
            if (first + row >= end || channel >= a.channels) continue;
            const u64 at = (u64)(first + row) * a.channels + channel;
            values[row][lane] = a.values[at];
            if (KIND == GRADIENTS) inputs[row][lane] = a.inputs[at];
        }
        __syncthreads();
        const u32 count = adds ? min((u32)SUM_ROWS, end - first) : 0;
        for (u32 row = 0; row < count; row++) {
            const Sum x = values[row][lane];
            if (KIND == SQUARES) {
                const Sum d = x - (Sum)mean;
                sum += d * d;
            } else {
                sum += x;
            }
            if (KIND == GRADIENTS) centred += x * ((Sum)inputs[row][lane] - (Sum)mean);
        }
        __syncthreads();
    }
    if (!adds) return;
    Sum* const parts = (Sum*)a.parts + (u64)blockIdx.x * a.channels * (KIND == GRADIENTS ? 2 : 1);
    parts[channel] = sum;
    if (KIND == GRADIENTS) parts[a.channels + channel] = centred;
}

#define SUM_ROWS_KERNEL(name, Sum, kind)                                                             \
    KERNEL(name, SumRowsArgs, THREADS) {                                                             \
        SHARED(values, SUM_ROWS * SUM_CHANNELS * 4);                                                 \
        SHARED(inputs, (kind == GRADIENTS ? SUM_ROWS : 1) * SUM_CHANNELS * 4);                       \
        sum_rows<Sum, kind>(a, (float(*)[SUM_CHANNELS])values, (float(*)[SUM_CHANNELS])inputs);      \
    }

SUM_ROWS_KERNEL(sum_rows_float, float, PLAIN)
SUM_ROWS_KERNEL(sum_rows_double, double, PLAIN)
SUM_ROWS_KERNEL(sum_squares, double, SQUARES)
SUM_ROWS_KERNEL(sum_gradients, double, GRADIENTS)

struct AverageArgs {
    const double* parts;  // [pieces][width]
    double* average;
    u32 pieces;
    u32 width;
    u32 count;  // 1: the sum
};

KERNEL(average_pieces, AverageArgs, THREADS) {
    EACH(i, a.width) {
        double sum = 0.0;
        for (u32 piece = 0; piece < a.pieces; piece++) sum += a.parts[(u64)piece * a.width + i];
        a.average[i] = sum / (double)a.count;
    }
}

struct WidenArgs {
    const float* floats;
    double* doubles;
    u32 count;
};

KERNEL(widen, WidenArgs, THREADS) {
    EACH(i, a.count) a.doubles[i] = (double)a.floats[i];
}

__device__ __forceinline__ double double_of(u32 low, u32 high) { return __longlong_as_double((long long)((u64)high << 32 | low)); }

struct NormArgs {
    const double* mean;
    const double* var;
    const float* weight;
    const float* bias;
    const double* sums;  // of gradients, [2][channels]
    float* scale;        // of gradients: of the gradient
    float* of_input;
    float* shift;
    float* weight_gradient;
    float* bias_gradient;
    u32 channels;
    u32 eps_low;
    u32 eps_high;
    u32 count;
    u32 batch;  // whether the statistics depend on the input
};

// y = scale x + shift
KERNEL(norm_coefficients, NormArgs, THREADS) {
    const double eps = double_of(a.eps_low, a.eps_high);
    EACH(c, a.channels) {
        const double scale = (double)a.weight[c] / sqrt(a.var[c] + eps);
        a.scale[c] = (float)scale;
        a.shift[c] = (float)((double)a.bias[c] - a.mean[c] * scale);
    }
}

// The gradient of x is scale g + of_input x + shift.
KERNEL(norm_gradients, NormArgs, THREADS) {
    const double eps = double_of(a.eps_low, a.eps_high), count = (double)a.count;
    EACH(c, a.channels) {
        const double inverse = 1.0 / sqrt(a.var[c] + eps), bias = a.sums[c], weight = a.sums[a.channels + c] * inverse;
        const double scale = inverse * (double)a.weight[c];
        const double of_input = a.batch ? -scale * inverse * weight / count : 0.0;
        a.scale[c] = (float)scale;
        a.of_input[c] = (float)of_input;
        a.shift[c] = (float)(a.batch ? -scale * bias / count - of_input * a.mean[c] : 0.0);
        a.weight_gradient[c] = (float)weight;
        a.bias_gradient[c] = (float)bias;
    }
}

struct AffineArgs {
    const float* gradient;  // null: there is none
    const float* input;     // [rows][channels]
    const float* scale;
    const float* of_input;
    const float* shift;
    float* output;
    u32 count;
    u32 channels;
};

KERNEL(norm_forward, AffineArgs, THREADS) {
    EACH(i, a.count) {
        const u32 c = i % a.channels;
        a.output[i] = a.input[i] * a.scale[c] + a.shift[c];
    }
}

KERNEL(norm_backward, AffineArgs, THREADS) {
    EACH(i, a.count) {
        const u32 c = i % a.channels;
        a.output[i] = a.gradient[i] * a.scale[c] + a.input[i] * a.of_input[c] + a.shift[c];
    }
}
