#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lidar_ptq_fuzz::clouds(bytes));
