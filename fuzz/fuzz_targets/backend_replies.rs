#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| susx_fuzz::backend_replies(data));
