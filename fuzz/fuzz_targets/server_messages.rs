#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| susx_fuzz::server_messages(data));
