//! Caches as they are met: a folder, a scripted HTTP server that misbehaves, and the project's own server.

mod client;
mod s3;
mod security;
mod server;
mod server_limits;
mod server_uploads;
mod support;
mod tls;
