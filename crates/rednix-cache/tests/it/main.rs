//! Caches as they are met: a folder, a scripted HTTP server that misbehaves, and the project's own server.

mod client;
mod security;
mod server;
mod support;
