#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| susx_fuzz::prompt_json(data));
