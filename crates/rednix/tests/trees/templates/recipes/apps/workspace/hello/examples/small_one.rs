fn main() {
    println!("small_one says {}", hello::words());
}
