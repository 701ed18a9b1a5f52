#![no_main]

#[path = "../cap.rs"]
mod cap;

libfuzzer_sys::fuzz_target!(|data: &[u8]| glint_fuzz::copies(data));
