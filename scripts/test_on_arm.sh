#!/usr/bin/env bash
# Runs the engines' tests for 64-bit Arm on another computer: built by a cross compiler, run by qemu-user as three processors, which
# have NEON alone, dot products, and I8MM. Needs, on Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static, and
# rustup target add aarch64-unknown-linux-gnu.
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
for processor in cortex-a72 cortex-a76 max; do
  echo "== $processor"
  export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64-static -cpu $processor -L /usr/aarch64-linux-gnu"
  cargo test --release --locked --target aarch64-unknown-linux-gnu --no-default-features --lib engine::
done
