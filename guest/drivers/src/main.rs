//! The daemon: drives one modern virtio disk or network card that Redox's PCI daemon hands it, or all that are in the
//! memory slots it is told of (`virtiod slots`).
//!
//! Finds no devices itself, drives no transitional ones, and answers one request to a disk at a time.

#[cfg(target_os = "redox")]
mod redox;

#[cfg(target_os = "redox")]
fn main() {
    redox::main()
}

#[cfg(not(target_os = "redox"))]
fn main() {
    eprintln!("virtiod: this program is a driver of Redox and does nothing elsewhere");
    std::process::exit(2);
}
