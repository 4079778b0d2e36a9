#![cfg_attr(target_os = "redox", no_std, no_main)]

#[cfg(not(target_os = "redox"))]
fn main() {
    println!("hello-bare says hello");
}

#[cfg(target_os = "redox")]
mod redox {
    #[link(name = "c")]
    extern "C" {
        fn puts(text: *const u8) -> i32;
        fn abort() -> !;
    }

    #[no_mangle]
    pub extern "C" fn main() -> i32 {
        unsafe { puts(b"hello-bare says hello\0".as_ptr()) };
        0
    }

    // The prebuilt `core` unwinds, which needs this name even where nothing panics.
    #[no_mangle]
    pub extern "C" fn rust_eh_personality() {}

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo) -> ! {
        unsafe { abort() }
    }
}
