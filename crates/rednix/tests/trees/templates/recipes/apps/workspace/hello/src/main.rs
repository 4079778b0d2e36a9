fn main() {
    println!("hello says {}", hello::words());
}
