//! Float: inference, and training forwards and backwards.
