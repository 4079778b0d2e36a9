fn main() {
    println!("second_one says {}", hello::words());
}
